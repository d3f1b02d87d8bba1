"""Copies of a database while a controller writes to it: ours, and SQLite's own ways."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import (
    DiskFullError,
    StorageError,
    Store,
    back_up,
    check_invariants,
)
from trimtab_storage.testing import complete, make_point

OURS, OTHERS = 50, 50 if os.environ.get("TRIMTAB_CHAOS") == "1" else 10

Copy = Callable[[str, Path], None]


def by_us(url: str, target: Path) -> None:
    assert back_up(url, target) == target.stat().st_size


def by_backup(url: str, target: Path) -> None:
    with reading(url) as source, closing(sqlite3.connect(target)) as copy:
        # Page by page, so that the writer comes between, and it has to begin anew.
        source.backup(copy, pages=7, sleep=0)


def by_vacuum(url: str, target: Path) -> None:
    with reading(url) as source:
        source.execute("VACUUM INTO ?", (str(target),))


def reading(url: str) -> closing[sqlite3.Connection]:
    path = url.removeprefix("sqlite:///")
    return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True))


@pytest.mark.parametrize(
    ("copy", "backups"), [(by_us, OURS), (by_backup, OTHERS), (by_vacuum, OTHERS)]
)
def test_backups_under_load_are_sound_and_hold_all_that_was_acknowledged(
    url: str,
    tmp_path: Path,
    child: Callable[[Callable[[], None]], Any],
    wait_for: Callable[[Callable[[], bool]], None],
    copy: Copy,
    backups: int,
    rng: random.Random,
) -> None:
    acks = tmp_path / "acks"
    Store.open(url).close()

    def control() -> None:
        with Store.open(url, controller=True) as mine, acks.open("a", buffering=1) as log:
            lease = mine.acquire(mine.create_study("reviews", {}, {}, {}).id, "one", 60.0)
            for number in range(10**9):
                point = make_point(f"{number:06x}", drop=(number % 97) / 100, flops=1 + number % 89)
                complete(mine, lease, number, point)
                log.write(f"{number}\n")

    running = child(control)
    for number in range(backups):
        goal = acknowledged(acks) + rng.randint(1, 5)
        wait_for(lambda goal=goal: acknowledged(acks) >= goal)
        known, target = acknowledged(acks), tmp_path / f"copy-{number}.db"
        copy(url, target)
        with Store.open(f"sqlite:///{target}") as store:
            study = store.study("reviews")
            assert study is not None
            assert check_invariants(store, study.id) == []
            done = [row.number for row in store.trials(study.id, "complete")]
            assert done == list(range(len(done))) and len(done) >= known
    running.kill()
    with Store.open(url) as store:
        study = store.study("reviews")
        assert study is not None and check_invariants(store, study.id) == []


def acknowledged(path: Path) -> int:
    """Counts the trials whose result the controller knows to be stored."""
    return path.read_text().count("\n") if path.exists() else 0


def test_nothing_is_replaced_unasked_and_only_a_database_if_asked(url: str, tmp_path: Path) -> None:
    with Store.open(url) as store:
        store.create_study("old", {}, {}, {})
        target, notes = tmp_path / "copy.db", tmp_path / "notes.txt"
        back_up(url, target)
        store.create_study("new", {}, {}, {})
        notes.write_text("of somebody")
        with pytest.raises(StorageError, match="exists already: name another file, or pass"):
            back_up(url, target)
        for other in (notes, tmp_path):
            with pytest.raises(StorageError, match="something else is there that is no database"):
                back_up(url, other, replace=True)
        assert studies(target) == ["old"] and notes.read_text() == "of somebody"
        back_up(url, target, replace=True)
        assert studies(target) == ["old", "new"]


def test_a_database_in_use_is_not_replaced(url: str, tmp_path: Path) -> None:
    target = tmp_path / "other.db"
    with Store.open(url), Store.open(f"sqlite:///{target}") as other:
        other.create_study("other", {}, {}, {})
        with pytest.raises(StorageError, match=r"other.db-wal shows that it is a database in use"):
            back_up(url, target, replace=True)
    with pytest.raises(StorageError, match="it is the database itself"):
        back_up(url, tmp_path / "trimtab.db", replace=True)
    assert studies(target) == ["other"]


def test_a_backup_that_cannot_be_written_leaves_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(url).close()
    with pytest.raises(StorageError, match="no is no folder"):
        back_up(url, tmp_path / "no" / "copy.db")
    with pytest.raises(StorageError, match="no database at"):
        back_up(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy.db")
    (tmp_path / "damaged.db").write_bytes((tmp_path / "trimtab.db").read_bytes()[:9000])
    with pytest.raises(StorageError, match="could not be copied: database disk image is malformed"):
        back_up(f"sqlite:///{tmp_path}/damaged.db", tmp_path / "copy.db")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trimtab_storage.backup.sync_file", full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        back_up(url, tmp_path / "copy.db")
    assert list(tmp_path.glob("*copy*")) == []


def test_a_database_of_an_older_version_can_be_copied(url: str, tmp_path: Path) -> None:
    with Store.open(url) as store, store._database.write() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 0")
    back_up(url, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT version FROM schema_version").fetchall() == [(0,)]


def studies(path: Path) -> list[str]:
    with Store.open_reader(f"sqlite:///{path}") as reader:
        return [study.name for study in reader.studies()]
