"""The disk is full at the first, second, third … write of a run, once or for a while."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, event

from trimtab_storage import ArtifactFiles

pytestmark = pytest.mark.slow

TRIALS, MOST = 6, 50
LOOK_EVERY_S = 0.2


class FullDisk:
    """Lets writes fail in a controller and its workers, of rows and of artifacts' files.

    Args:
        at: The number of the write that fails, from 1.
        for_s: For how long all that come after it fail too.
    """

    def __init__(self, at: int, for_s: float) -> None:
        fork = multiprocessing.get_context("fork")
        self._at, self._for_s = at, for_s
        self.count, self._end_s = fork.Value("i", 0), fork.Value("d", 0.0)

    def fill(self, patch: pytest.MonkeyPatch) -> None:
        """Takes the room, in the process of a controller that is about to start."""
        event.listen(Engine, "do_execute", self._execute)
        patch.setattr("trimtab_storage.artifacts.sync_tree", self._sync)
        patch.setattr(ArtifactFiles, "has_room", lambda files, n_bytes: self._has_room())
        patch.setattr("trimtab.controller._room.LOOK_EVERY_S", LOOK_EVERY_S)
        # The tests' own handlers are inherited, and keep warnings from going to stderr.
        logging.getLogger("trimtab").addHandler(logging.StreamHandler())

    def _is_full(self) -> bool:
        with self.count.get_lock():
            self.count.value += 1
            if self.count.value == self._at:
                self._end_s.value = time.monotonic() + self._for_s
            return self.count.value == self._at or time.monotonic() < self._end_s.value

    def _has_room(self) -> bool:
        return time.monotonic() >= self._end_s.value

    def _execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE", "CREATE") and self._is_full():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def _sync(self, folder: Path) -> None:
        if self._is_full():
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("for_s", [0.0, 1.0], ids=["once", "for a while"])
def test_full_disk_pauses_a_run_that_loses_nothing(
    stage: Any, rng: random.Random, size: Callable[..., int], tmp_path: Path, for_s: float
) -> None:
    paused = 0
    for at in [1, *sorted(rng.sample(range(2, MOST + 1), size(5, MOST - 1)))]:
        print(f"write {at}")
        (tmp_path / f"{at}").mkdir()
        here = type(stage)(type(stage.lab)(tmp_path / f"{at}", stage.lab.files), stage.value_of)
        paused += fill_and_go_on(here, FullDisk(at, for_s))
    assert paused, "some runs must have been under way"


def fill_and_go_on(here: Any, disk: FullDisk) -> bool:
    """Runs a study on a disk that fills up; tells whether it had begun by then."""
    lab = here.lab
    here.write_spec(search__trials=TRIALS)
    code = here.run(prepare=disk.fill)
    said = [line for line in lab.said().splitlines() if line != "{}"]  # which is the result
    assert disk.count.value > 0 and "Traceback" not in lab.said()
    if code == 1:  # nobody held the study yet, and whoever started it is there to read this
        assert "the disk is full" in said[0] and not any(x.event == "start" for x in lab.log())
        assert here.run() == 0, lab.said()
    else:
        assert code == 0, lab.said()
        # What the clock has written now and then is not waited for; and a worker's failure may be
        # heard of only after the controller's own write has found room again.
        assert len(said) in (0, 2, 4), said
        assert all("the disk is full" in line for line in said[::2])
        assert all("room again" in line for line in said[1::2])
    here.assert_finished({"complete": TRIALS, "failed": 0})
    acks = [line.what for line in lab.log() if line.event == "ack"]
    assert sorted(acks) == sorted(trial.id for trial in lab.trials())
    assert {trial.attempts for trial in lab.trials()} == {1}
    assert lab.leftovers() == []
    return code == 0 and bool(said)


@pytest.mark.parametrize("each", [signal.SIGTERM, signal.SIGINT])
def test_paused_run_rests_and_ends_when_it_is_told_to(
    stage: Any, rng: random.Random, each: signal.Signals
) -> None:
    lab, disk = stage.lab, FullDisk(rng.randrange(30, 60), 3600)
    stage.write_spec(search__trials=TRIALS)
    process = stage.start(prepare=disk.fill)
    lab.wait_for(lambda lines: bool(lines) and "paused" in lab.said())
    time.sleep(0.5)
    used = psutil.Process(process.pid).cpu_times()
    time.sleep(1.0)
    now = psutil.Process(process.pid).cpu_times()
    assert now.user + now.system - used.user - used.system < 0.3, "it spins"
    assert lab.said().count("\n") == 1
    psutil.Process(process.pid).send_signal(each)
    assert stage.end(process, within_s=10) == 130, lab.said()
    assert lab.problems() == []
    assert stage.run() == 0, lab.said()
    stage.assert_finished({"complete": TRIALS, "failed": 0})
    assert {trial.attempts for trial in lab.trials()} == {1}


def test_the_time_ends_a_run_that_is_paused(stage: Any, rng: random.Random) -> None:
    lab, disk = stage.lab, FullDisk(rng.randrange(30, 60), 3600)
    stage.write_spec(search__trials=TRIALS, search__time="5 s")
    code = stage.run(prepare=disk.fill)
    last = lab.said().splitlines()[-1]
    assert code == 1 and "the disk is full" in last and "the same command goes on" in last
    assert lab.problems() == []
    stage.write_spec(search__trials=TRIALS)
    assert stage.run() == 0, lab.said()
    stage.assert_finished({"complete": TRIALS, "failed": 0})
