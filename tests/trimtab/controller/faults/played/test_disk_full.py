"""The disk is full at the first, second, third … write of a run, once or from then on."""

from __future__ import annotations

import errno
import multiprocessing
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

pytestmark = pytest.mark.slow

TRIALS, MOST = 6, 50


def fill_the_disk(patch: pytest.MonkeyPatch, counter: Any, at: int, once: bool) -> None:
    """Lets a write fail in this process or its workers, of a row or of an artifact's files.

    Args:
        patch: Undone with the process.
        counter: An integer in shared memory, in which the writes are counted.
        at: The number of the write that fails, from 1.
        once: Whether there is room again after it.
    """

    def is_full() -> bool:
        with counter.get_lock():
            counter.value += 1
            return counter.value == at or (counter.value > at and not once)

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE", "CREATE") and is_full():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def sync(folder: Path) -> None:
        if is_full():
            raise OSError(errno.ENOSPC, "No space left on device")

    event.listen(Engine, "do_execute", execute)
    patch.setattr("trimtab_storage.artifacts.sync_tree", sync)


@pytest.mark.parametrize("once", [True, False], ids=["once", "from then on"])
def test_full_disk_loses_nothing_and_the_same_command_goes_on(
    stage: Any, rng: random.Random, size: Callable[..., int], tmp_path: Path, once: bool
) -> None:
    ends = []
    for at in [1, *sorted(rng.sample(range(2, MOST + 1), size(5, MOST - 1)))]:
        print(f"write {at}")
        (tmp_path / f"{at}").mkdir()
        here = type(stage)(type(stage.lab)(tmp_path / f"{at}", stage.lab.files), stage.value_of)
        ends.append(fill_and_go_on(here, at, once))
    assert 1 in ends, "some runs must have ended for lack of room"


def fill_and_go_on(here: Any, at: int, once: bool) -> int:
    """Runs a study on a disk that fills up, then again with room; gives the first exit code."""
    lab, counter = here.lab, multiprocessing.get_context("fork").Value("i", 0)
    here.write_spec(search__trials=TRIALS)
    code: int = here.run(prepare=lambda patch: fill_the_disk(patch, counter, at, once))
    assert counter.value >= at, "the run must have come so far"
    said = lab.said()
    assert code in (0, 1) and "Traceback" not in said
    assert code == 0 or "the disk is full" in said.splitlines()[0], said
    assert code == 1 or once
    acks = {line.what for line in lab.log() if line.event == "ack"}
    seen = len(lab.log())
    study = lab.study()
    if study is not None:
        assert acks <= {trial.id for trial in lab.complete()}
        assert lab.problems() == []
    done = [trial.recipe[0]["choices"] for trial in lab.complete()]
    assert here.run() == 0, lab.said()
    again = [x.what for x in lab.log()[seen:] if x.event == "start" and x.job == "LadderJob"]
    assert not [what for what in again if what in done], "a finished trial ran again"
    here.assert_finished({"complete": TRIALS, "failed": 0})
    return code
