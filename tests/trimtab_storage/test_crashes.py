"""What was acknowledged survives `kill -9` of any process, and a torn log."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from trimtab_storage import DiskFullError, LeaseLostError, Store, TrialState, check_invariants
from trimtab_storage.testing import make_artifact, make_point, make_recipe

KILLS = 25
N_CUTS, N_SNAPSHOTS, PAUSES = 200, 200, 50
FULL_AT, TRIALS = 50, 8
Start = Callable[[Callable[[], None]], Any]
WaitFor = Callable[[Callable[[], bool]], None]


def acknowledge(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def acknowledged(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def control(url: str, acks: Path, trials: int) -> None:
    """A controller: takes the study over, recovers it, and runs trials to the end."""
    with Store.open(url, controller=True) as store:
        study = store.create_study("reviews", {}, {}, {})
        owner = f"{os.getpid()}"
        lease = store.acquire(study.id, owner, 60.0, is_dead=lambda other: True)
        store.update_study(lease, state="running")
        store.recover_trials(lease)
        while store.trial_counts(study.id)["complete"] < trials:
            waiting = store.trials(study.id, TrialState.WAITING)
            number = len(store.trials(study.id))
            trial = (
                waiting[0] if waiting else store.add_trial(lease, make_recipe(number), f"{number}")
            )
            attempt = store.start_trial(lease, trial.id)
            rng = random.Random(trial.number)
            store.complete_trial(
                lease,
                trial.id,
                attempt,
                points=[
                    make_point(f"{trial.number:04x}{i:02x}", drop=rng.random(), flops=rng.random())
                    for i in range(4)
                ],
                artifacts=[make_artifact(f"{trial.number:04x}{i:02x}") for i in range(4)],
                seconds=0.1,
                reused=0,
                result={"number": trial.number},
            )
            acknowledge(acks, str(trial.number))
        store.update_study(lease, state="finished")
        store.release(lease)


def test_killed_controllers_lose_nothing_that_was_acknowledged(
    url: str, tmp_path: Path, child: Start, wait_for: WaitFor, rng: random.Random
) -> None:
    acks = tmp_path / "acks"
    for kill in range(KILLS):
        running = child(lambda: control(url, acks, 10**9))
        if kill % 3:
            # Into the work; the others fall anywhere, also into opening and taking over.
            before = len(acknowledged(acks))
            wait_for(lambda before=before: len(acknowledged(acks)) > before)
        time.sleep(rng.random() * 0.06)
        running.kill()
        if (tmp_path / "trimtab.db").exists() and acknowledged(acks):
            with Store.open_reader(url) as reader:
                study = reader.study("reviews")
                assert study is not None
                done = {str(row.number) for row in reader.trials(study.id, TrialState.COMPLETE)}
                assert set(acknowledged(acks)) <= done
                assert check_invariants(reader, study.id) == []
    assert child(lambda: control(url, acks, len(acknowledged(acks)) + 20)).exit_code() == 0
    with Store.open_reader(url) as reader:
        study = reader.study("reviews")
        assert study is not None and study.state == "finished"
        assert check_invariants(reader, study.id) == []
        rows = reader.trials(study.id)
        assert all(row.state == "complete" and row.attempts == 1 for row in rows)
        assert len(reader.points(study.id)) == 4 * len(rows)
    numbers = acknowledged(acks)
    assert len(numbers) == len(set(numbers)), "a result was recorded twice"
    assert len(rows) - len(numbers) <= KILLS


@pytest.mark.slow
def test_paused_controller_writes_nothing_after_another_took_over(
    url: str, tmp_path: Path, child: Start, wait_for: WaitFor
) -> None:
    with Store.open(url) as store:
        study = store.create_study("reviews", {}, {}, {})
        for _ in range(PAUSES):
            acks, lost = tmp_path / "acks", tmp_path / "lost"
            acks.unlink(missing_ok=True)
            lost.unlink(missing_ok=True)

            def hammer(acks: Path = acks, lost: Path = lost) -> None:
                with Store.open(url, controller=True) as mine:
                    lease = mine.acquire(study.id, f"{os.getpid()}", 0.05)
                    try:
                        while True:
                            number = len(mine.trials(study.id))
                            mine.add_trial(lease, make_recipe(number), f"{lease.fence}.{number}")
                            acknowledge(acks, "added")
                            time.sleep(0.003)
                    except LeaseLostError:
                        acknowledge(lost, "lost")

            paused = child(hammer)
            wait_for(lambda acks=acks: len(acknowledged(acks)) > 2)
            paused.signal(signal.SIGSTOP)
            time.sleep(0.06)
            # A process stopped inside a transaction holds the write lock; let it out of there.
            taken = None
            while taken is None:
                taken = _acquire_unless_stopped_inside(url, study.id, paused)
            before = store.trials(study.id)
            paused.signal(signal.SIGCONT)
            assert paused.exit_code() == 0
            assert acknowledged(lost) == ["lost"]
            assert store.trials(study.id) == before
            store.release(taken)
        assert check_invariants(store, study.id) == []


def _acquire_unless_stopped_inside(url: str, study_id: int, paused: Any) -> Any:
    probe = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=0)
    try:
        probe.execute("BEGIN IMMEDIATE")
        probe.execute("ROLLBACK")
    except sqlite3.OperationalError:
        paused.signal(signal.SIGCONT)
        time.sleep(0.003)
        paused.signal(signal.SIGSTOP)
        return None
    finally:
        probe.close()
    with Store.open(url) as mine:
        return mine.acquire(study_id, "taker", 60.0)


@contextmanager
def full_from(write: int) -> Iterator[None]:
    """Lets no row be written from the given write on, counted from 1."""
    left = itertools.count(1 - write)

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE", "CREATE") and next(left) >= 0:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    event.listen(Engine, "do_execute", execute)
    try:
        yield
    finally:
        event.remove(Engine, "do_execute", execute)


@pytest.mark.slow
@pytest.mark.parametrize("write", range(1, FULL_AT + 1))
def test_full_disk_at_any_write_loses_nothing(url: str, tmp_path: Path, write: int) -> None:
    acks = tmp_path / "acks"
    with full_from(write), pytest.raises(DiskFullError, match="the disk is full"):
        control(url, acks, TRIALS)
    assert_sound(url, acks)
    known = acknowledged(acks)
    control(url, acks, TRIALS)
    assert_sound(url, acks)
    assert acknowledged(acks) == [str(number) for number in range(TRIALS)]
    assert acknowledged(acks)[: len(known)] == known, "what was acknowledged was done again"


def assert_sound(url: str, acks: Path) -> None:
    """Checks that what was acknowledged is there, and that nothing is half done."""
    with Store.open(url) as store:
        study = store.study("reviews")
        done = store.trials(study.id, TrialState.COMPLETE) if study else []
        assert set(acknowledged(acks)) <= {str(row.number) for row in done}
        assert (check_invariants(store, study.id) if study else store.integrity_problems()) == []


def copied(source: Path, target: Path, cut: int | None = None) -> str:
    target.mkdir()
    shutil.copy(source / "trimtab.db", target)
    log = (source / "trimtab.db-wal").read_bytes()
    (target / "trimtab.db-wal").write_bytes(log if cut is None else log[:cut])
    return f"sqlite:///{target}/trimtab.db"


def surviving(url: str) -> int:
    """Gives how many of the events 0, 1, 2 … a copy holds; it must hold a prefix of them."""
    with Store.open(url) as store:
        study = store.study("reviews")
        if study is None:
            assert store.integrity_problems() == []
            return 0
        assert check_invariants(store, study.id) == []
        found = [row.data["i"] for row in store.events(study.id)]
        assert found == list(range(len(found)))
        store.log_event(study.id, "tick", {"i": len(found)})
        return len(found)


@pytest.mark.slow
def test_torn_logs_open_and_hold_a_prefix(url: str, tmp_path: Path, rng: random.Random) -> None:
    with Store.open(url) as store:
        study = store.create_study("reviews", {}, {}, {})
        for i in range(60):
            store.log_event(study.id, "tick", {"i": i})
        size = (tmp_path / "trimtab.db-wal").stat().st_size
        cuts = sorted([size, *(rng.randrange(size) for _ in range(N_CUTS))])
        held = [surviving(copied(tmp_path, tmp_path / f"{i}", cut)) for i, cut in enumerate(cuts)]
    assert held == sorted(held), "a longer log must not hold less"
    assert held[-1] == 60
    assert len(set(held)) > 10, "the cuts must fall between the events"


def test_garbled_end_of_the_log_is_left_out(url: str, tmp_path: Path) -> None:
    with Store.open(url) as store:
        study = store.create_study("reviews", {}, {}, {})
        for i in range(20):
            store.log_event(study.id, "tick", {"i": i})
        copy = copied(tmp_path, tmp_path / "copy")
        log = tmp_path / "copy" / "trimtab.db-wal"
        log.write_bytes(log.read_bytes()[:-100] + b"\xff" * 100)
        assert surviving(copy) == 19


@pytest.mark.slow
def test_snapshots_under_load_hold_all_that_was_acknowledged(
    url: str, tmp_path: Path, child: Start, wait_for: WaitFor
) -> None:
    acks = tmp_path / "acks"
    with Store.open(url) as store:
        study = store.create_study("reviews", {}, {}, {})

        def tick() -> None:
            with Store.open(url) as mine:
                for i in range(10**9):
                    mine.log_event(study.id, "tick", {"i": i})
                    acknowledge(acks, str(i))
                    time.sleep(0.01)  # else the copies get so long that reading them takes all time

        running = child(tick)
        for i in range(N_SNAPSHOTS):
            goal = len(acknowledged(acks)) + 1
            wait_for(lambda goal=goal: len(acknowledged(acks)) >= goal)
            known = len(acknowledged(acks))
            assert surviving(copied(tmp_path, tmp_path / f"{i}")) >= known
        running.kill()


def test_reader_sees_only_whole_transactions_while_a_controller_writes(
    url: str, tmp_path: Path, child: Start, wait_for: WaitFor
) -> None:
    acks = tmp_path / "acks"
    running = child(lambda: control(url, acks, 10**9))
    wait_for(lambda: len(acknowledged(acks)) > 2)
    with Store.open_reader(url) as reader:
        study = reader.study("reviews")
        assert study is not None
        enough = len(acknowledged(acks)) + 10
        while (known := len(acknowledged(acks))) < enough:
            rows = reader.points(study.id)
            assert len(rows) >= 4 * known and len(rows) % 4 == 0
            drops = [row.drop for row in reader.frontier(study.id)]
            assert drops == sorted(drops, reverse=True)
    running.kill()
    assert_sound(url, acks)


def test_database_works_on_after_the_only_checkpointer_was_killed(
    url: str, tmp_path: Path, child: Start, wait_for: WaitFor
) -> None:
    acks = tmp_path / "acks"
    running = child(lambda: control(url, acks, 10**9))
    wait_for(lambda: len(acknowledged(acks)) > 2)
    running.kill()
    with Store.open(url) as store:
        study = store.study("reviews")
        assert study is not None
        store.add_certified_point(study.id, make_point(split="certify"))
    assert_sound(url, acks)
