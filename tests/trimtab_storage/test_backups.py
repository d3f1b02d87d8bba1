"""SQLite's own ways to copy a database, while a controller writes to it."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import Store, check_invariants
from trimtab_storage.testing import complete, make_point

BACKUPS = 50 if os.environ.get("TRIMTAB_CHAOS") == "1" else 10


def by_backup(source: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target)) as copy:
        # Page by page, so that the writer comes between, and it has to begin anew.
        source.backup(copy, pages=7, sleep=0)


def by_vacuum(source: sqlite3.Connection, target: Path) -> None:
    source.execute("VACUUM INTO ?", (str(target),))


@pytest.mark.parametrize("copy", [by_backup, by_vacuum])
def test_backups_under_load_are_sound_and_hold_all_that_was_acknowledged(
    url: str,
    tmp_path: Path,
    child: Callable[[Callable[[], None]], Any],
    wait_for: Callable[[Callable[[], bool]], None],
    copy: Callable[[sqlite3.Connection, Path], None],
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
    for number in range(BACKUPS):
        goal = acknowledged(acks) + rng.randint(1, 5)
        wait_for(lambda goal=goal: acknowledged(acks) >= goal)
        known, target = acknowledged(acks), tmp_path / f"copy-{number}.db"
        with closing(sqlite3.connect(f"file:{tmp_path}/trimtab.db?mode=ro", uri=True)) as source:
            copy(source, target)
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
