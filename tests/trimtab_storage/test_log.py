"""The log stays short and nothing is lost by it, also where SQLite must not copy it by itself."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import Store, _guards, _log

EVENTS, CONTROLLERS, TEXT = 400, 2, "x" * 3_000
SHORT_BYTES = 64 * 1024

Child = Callable[[Callable[[], None]], Any]


@pytest.fixture(params=[True, False], ids=["fault", "mended"])
def affected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(_guards, "needs_one_checkpointer", lambda version: request.param)
    return bool(request.param)


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guards, "needs_one_checkpointer", lambda version: True)
    monkeypatch.setattr(_log, "LONG_BYTES", SHORT_BYTES)


def fill(store: Store, study_id: int, events: int = EVENTS) -> None:
    for number in range(events):
        store.log_event(study_id, "tick", {"number": number, "text": TEXT})


def copied_studies(tmp_path: Path) -> list[str]:
    """Gives the studies in the database itself, without its log."""
    shutil.copy(tmp_path / "trimtab.db", tmp_path / "alone.db")
    with Store.open_reader(f"sqlite:///{tmp_path}/alone.db") as reader:
        return [study.name for study in reader.studies()]


@pytest.mark.parametrize("controller", [True, False])
def test_sqlite_copies_by_itself_only_where_it_has_no_fault(
    url: str, affected: bool, controller: bool
) -> None:
    with Store.open(url, controller=controller) as store, store._database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one()
    assert pages == (0 if affected else 1000)


def test_closing_controller_empties_the_log_while_others_stay(
    url: str, tmp_path: Path, affected: bool
) -> None:
    with Store.open(url, controller=True) as first:
        first.create_study("first", {}, {}, {})
    with Store.open(url) as other:
        with Store.open(url, controller=True) as controller:
            controller.create_study("a", {}, {}, {})
            assert copied_studies(tmp_path) == ["first"]
        assert copied_studies(tmp_path) == ["first", "a"]
        assert affected or (tmp_path / "trimtab.db-wal").stat().st_size == 0
        assert [study.name for study in other.studies()] == ["first", "a"]


@pytest.mark.usefixtures("fault")
def test_log_stays_short_however_much_is_written(url: str, tmp_path: Path) -> None:
    log = tmp_path / "trimtab.db-wal"
    with Store.open(url) as store:
        study_id, longest = store.create_study("a", {}, {}, {}).id, 0
        for _ in range(EVENTS):
            fill(store, study_id, 1)
            longest = max(longest, log.stat().st_size)
        assert SHORT_BYTES < longest < 3 * SHORT_BYTES, longest
        assert len(store.events(study_id)) == EVENTS


@pytest.mark.usefixtures("fault")
def test_log_that_somebody_reads_is_cut_down_afterwards(url: str, tmp_path: Path) -> None:
    log = tmp_path / "trimtab.db-wal"
    with Store.open(url) as store:
        study_id = store.create_study("a", {}, {}, {}).id
        with closing(sqlite3.connect(tmp_path / "trimtab.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM event").fetchone() == (0,)
            fill(store, study_id)
            assert log.stat().st_size > 4 * SHORT_BYTES
            assert reader.execute("SELECT count(*) FROM event").fetchone() == (0,)
        fill(store, study_id, 2)
        assert log.stat().st_size <= SHORT_BYTES
        assert len(store.events(study_id)) == EVENTS + 2
        assert store.integrity_problems() == []


@pytest.mark.usefixtures("fault")
def test_nobody_can_write_while_the_log_is_copied(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, refused = tmp_path / "trimtab.db", []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "wal_checkpoint" in sql:
                with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
                    with pytest.raises(sqlite3.OperationalError, match="locked"):
                        other.execute("BEGIN IMMEDIATE")
                    refused.append(sql)
            return super().execute(sql, *rest)

    connect = sqlite3.connect
    with Store.open(url) as store:
        store.create_study("a", {}, {}, {})
        monkeypatch.setattr(
            _log.sqlite3, "connect", lambda *a, **named: connect(*a, **named, factory=Watched)
        )
        _log.empty(path)
        monkeypatch.undo()
        assert refused == ["PRAGMA wal_checkpoint(PASSIVE)"]
        assert copied_studies(tmp_path) == ["a"]


@pytest.mark.usefixtures("fault")
def test_log_is_left_as_it_is_while_another_writes(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "_PATIENCE_MS", 10)
    path = tmp_path / "trimtab.db"
    with Store.open(url) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.create_study("a", {}, {}, {})
        before = path.read_bytes()
        other.execute("BEGIN IMMEDIATE")
        _log.empty(path)
        assert path.read_bytes() == before
        other.execute("ROLLBACK")
        _log.empty(path)
        assert path.read_bytes() != before


def test_no_file_is_made_where_the_database_was_taken_away(tmp_path: Path, affected: bool) -> None:
    _log.shorten(tmp_path / "trimtab.db")
    _log.empty(tmp_path / "trimtab.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("fault")
def test_controllers_side_by_side_lose_nothing_and_keep_the_log_short(
    url: str, tmp_path: Path, child: Child, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    log, longest, copy = tmp_path / "trimtab.db-wal", 0, _log._copy_alone
    Store.open(url).close()

    def control(name: str) -> None:
        def noted(path: Path) -> None:
            copy(path)
            with (tmp_path / f"copies-{name}").open("a") as file:
                file.write("x")

        _log._copy_alone = noted
        with Store.open(url, controller=True) as mine:
            fill(mine, mine.create_study(name, {}, {}, {}).id)
        (tmp_path / f"done-{name}").touch()

    # Before this process opens the file: a connection must not be carried into a child.
    running = [child(lambda name=str(i): control(name)) for i in range(CONTROLLERS)]
    with Store.open_reader(url) as reader:

        def ended() -> bool:
            nonlocal longest
            longest = max(longest, log.stat().st_size)
            return len(list(tmp_path.glob("done-*"))) == CONTROLLERS

        wait_for(ended)
        assert [process.exit_code() for process in running] == [0] * CONTROLLERS
        assert reader.integrity_problems() == []
        for study in reader.studies():
            assert [row.data["number"] for row in reader.events(study.id)] == list(range(EVENTS))
    assert all((tmp_path / f"copies-{i}").exists() for i in range(CONTROLLERS))
    written = CONTROLLERS * EVENTS * len(TEXT)
    assert longest < 32 * SHORT_BYTES < written, longest


def test_the_caution_names_the_version_where_it_has_the_fault(affected: bool) -> None:
    said = _log.sqlite_caution()
    assert (said is not None) == affected
    if said is not None:
        assert sqlite3.sqlite_version in said and "\n" not in said
