"""Runs that find the disk full: they pause, say so once, and go on by themselves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.controller import _room, _trials
from trimtab.controller._room import Room, patient
from trimtab.controller._runner import MOST_LACKS
from trimtab.errors import InterruptedStudyError
from trimtab_storage import ArtifactFiles, DiskFullError, PlaceError, Store
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import BaselineJob, LadderJob, StatisticsJob, SurveyJob

FULL = DiskFullError("nothing was written to x.db, because the disk is full: make room")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_room, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(_room, "POLL_S", 0.005)
    monkeypatch.setattr(_trials, "POLL_S", 0.005)


def room_of(
    free: list[float], check: Callable[[], None] = lambda: None, left_s: float = 60.0
) -> Room:
    """Room on a disk that has so many bytes free, look by look, and then the last of them."""

    def has_room(n_bytes: float) -> bool:
        return (free.pop(0) if len(free) > 1 else free[0]) >= n_bytes

    return Room(SimpleNamespace(has_room=has_room), check, lambda: left_s)  # type: ignore[arg-type]


def failing(times: int) -> Any:
    """A write that has no room so often, and then gives its argument."""
    left = [FULL] * times

    def write(value: int) -> int:
        if left:
            raise left.pop()
        return value

    return write


def test_a_write_is_done_again_until_there_is_room_and_that_is_said_once(caplog: Any) -> None:
    store = patient(SimpleNamespace(log_event=failing(4), url="x"), room_of([1e9]))  # type: ignore[arg-type]
    assert store.log_event(7) == 7 and store.url == "x"  # type: ignore[call-arg, arg-type, comparison-overlap]
    assert [record.message for record in caplog.records] == [
        f"paused: {FULL}; it goes on by itself as soon as there is room",
        "there is room again: it goes on",
    ]


def test_what_fails_for_another_reason_is_not_done_again() -> None:
    calls: list[int] = []

    def write() -> None:
        calls.append(1)
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        room_of([1e9]).insist(write)
    assert len(calls) == 1


def test_a_wait_ends_when_the_user_stops_or_the_time_is_up(caplog: Any) -> None:
    checks: list[int] = []

    def stop() -> None:
        checks.append(1)
        if len(checks) > 3:
            raise InterruptedStudyError("stopped")

    for hold in (lambda room: room.wait(FULL), lambda room: room.insist(lambda: failing(99)(1))):
        checks.clear()
        with pytest.raises(InterruptedStudyError):
            hold(room_of([0.0], stop))
        with pytest.raises(DiskFullError, match="make room; the same command goes on$"):
            hold(room_of([0.0], left_s=0.0))
    assert not any("again" in record.message for record in caplog.records)


def test_a_check_that_writes_does_not_wait_for_itself() -> None:
    def check() -> None:
        room.insist(lambda: failing(1)(1))

    room = room_of([1e9], check)
    with pytest.raises(DiskFullError):
        room.insist(lambda: failing(1)(1))


def test_what_is_short_stays_so_until_there_is_room_for_a_model(caplog: Any) -> None:
    room, seen = room_of([1e9, 1e7, 1e8, 5e8]), []
    room.expect(4e8)
    assert room.look() and not caplog.records
    room.wait(FULL)
    assert not room.is_short and len(caplog.records) == 2
    assert "397 MiB" in caplog.records[0].message, seen


def test_a_place_that_cannot_be_asked_holds_nothing_up() -> None:
    def refuse(n_bytes: float) -> bool:
        raise PlaceError("not there")

    room = Room(SimpleNamespace(has_room=refuse), lambda: None, lambda: 60.0)  # type: ignore[arg-type]
    assert room.look()


def test_a_database_that_has_no_room_is_written_to_again(
    bench: Any, fake: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself says so here, in the middle of a study's transactions."""
    allowed = [0]

    def limit(pages: int) -> None:
        with bench.store._database.write() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and not allowed[0]:
            allowed[0] = 1
            limit(1)  # which SQLite takes for as many as there are
        return None

    def stop() -> bool:
        if len(caplog.records) == 1:
            limit(10**6)
        return False

    bench.run(fake(script), bench.spec(search__trials=12), stop)
    assert bench.states() == ["complete"] * 12 and bench.problems() == []
    assert [trial.attempts for trial in bench.trials()] == [1] * 12
    assert [record.message[:6] for record in caplog.records] == ["paused", "there "]
    assert isinstance(bench.store, Store) and bench.store.integrity_problems() == []


@pytest.mark.parametrize("kind", [SurveyJob, BaselineJob, StatisticsJob, LadderJob])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_full_disk_pauses_the_run_and_costs_no_trial(
    bench: Any, fake: Any, kind: type, slots: int, caplog: Any
) -> None:
    """As often as a trial may crash, and more."""
    full = Failure("disk_full", "OSError: [Errno 28] No space left on device")
    executor = fake(lambda job, nth: full if isinstance(job, kind) and nth < 3 else None, slots)
    bench.run(executor)
    assert bench.states() == ["complete"] * 4 and bench.problems() == []
    assert [trial.attempts for trial in bench.trials()] == [1] * 4
    said = [record.message for record in caplog.records]
    assert said[0].startswith("paused: the disk is full (OSError: [Errno 28]")
    assert said[0].endswith("it goes on by itself as soon as 16 MiB are free")
    assert said[1] == "there is room again: it goes on" and len(said) % 2 == 0


def test_while_the_disk_is_full_nothing_is_sent_out(
    bench: Any, fake: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, seen = [1e9], list[int]()
    monkeypatch.setattr(ArtifactFiles, "has_room", lambda files, n_bytes: free[0] >= n_bytes)
    full = Failure("disk_full", "DiskFullError: no room under here, because the disk is full")

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, LadderJob) and executor.count(LadderJob) == 2:
            free[0] = 1e6
            return full
        return None

    def stop() -> bool:
        if free[0] < 1e9:
            seen.append(len(executor.sent))
        if len(seen) == 20:
            free[0] = 1e9
        return False

    executor = fake(script)
    bench.run(executor, stop=stop)
    assert len(set(seen[1:])) == 1, "jobs were sent out"
    assert bench.states() == ["complete"] * 4 and bench.problems() == []
    assert len(caplog.records) == 2


def test_no_trial_starts_where_a_model_has_no_room(
    bench: Any, fake: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def stop() -> bool:
        looks.extend([1] if caplog.records else [])
        return len(looks) > 5

    executor = fake()
    with monkeypatch.context() as patch, pytest.raises(InterruptedStudyError):
        patch.setattr(ArtifactFiles, "has_room", lambda files, n_bytes: n_bytes <= 1e6)
        bench.run(executor, stop=stop)
    assert executor.count(LadderJob) == 0 and bench.trials() == []
    (said,) = [record.message for record in caplog.records]
    assert "too little room for another model under" in said
    bench.run(fake())
    assert bench.states() == ["complete"] * 4 and bench.problems() == []


def test_room_for_fewer_models_at_a_time_is_used_without_a_word(
    bench: Any, fake: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[float] = []

    def has_room(files: Any, n_bytes: float) -> bool:
        wanted.append(n_bytes)
        return n_bytes <= one

    def expect(room: Room, model_bytes: float) -> None:
        room._model_bytes = 4e8

    monkeypatch.setattr(Room, "expect", expect)
    monkeypatch.setattr(ArtifactFiles, "has_room", has_room)
    one = _room.LEAST_BYTES + 4e8
    bench.run(fake(slots=3))
    assert bench.states() == ["complete"] * 4 and not caplog.records
    assert max(wanted) > one, "it was asked for more"


def test_what_nobody_needs_is_dropped_before_the_user_is_asked_for_room(caplog: Any) -> None:
    dropped: list[int] = []
    room = room_of([0.0, 1e9])
    room.make_room = lambda: dropped.append(1)
    assert room.look() and dropped == [1] and not caplog.records
    short = room_of([0.0])
    short.make_room = lambda: dropped.append(2)
    assert not any(short.look() for _ in range(3)) and dropped == [1, 2], "once"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", [BaselineJob, LadderJob])
def test_a_disk_that_is_full_where_nobody_looks_ends_the_run(
    bench: Any, fake: Any, kind: type
) -> None:
    """Instead of doing the same work again and again."""
    full = Failure("disk_full", "OSError: [Errno 28] No space left on device: '/elsewhere'")
    executor = fake(lambda job, nth: full if isinstance(job, kind) else None)
    with pytest.raises(DiskFullError, match="elsewhere.*the same command goes on"):
        bench.run(executor)
    assert executor.count(kind) == MOST_LACKS + 1
    bench.run(fake())
    assert bench.states() == ["complete"] * 4 and bench.problems() == []


@pytest.mark.parametrize("kind", [BaselineJob, LadderJob])
def test_the_time_ends_a_pause_too(
    bench: Any, fake: Any, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is by then is delivered."""
    full = Failure("disk_full", "DiskFullError: no room under here, because the disk is full")

    def script(job: Any, nth: int) -> Any:
        is_full = isinstance(job, kind) and (kind is BaselineJob or executor.count(kind) > 1)
        if is_full:
            monkeypatch.setattr(ArtifactFiles, "has_room", lambda files, n_bytes: False)
        return full if is_full else None

    executor, spec = fake(script), bench.spec(search__time="2 s")
    if kind is BaselineJob:
        with pytest.raises(DiskFullError, match="no room under here.*the same command goes on"):
            bench.run(executor, spec)
        return
    result = bench.run(executor, spec)
    assert result.choice.point.trial_id is not None and bench.emitted
    assert (
        bench.states() == ["complete", "complete", "waiting"]
        and bench.study().state == "interrupted"
    )
