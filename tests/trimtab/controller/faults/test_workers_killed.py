"""`kill -9` of the processes that run the trials."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

KILLS, TRIALS = 20, 22
POISONED = 5
"""The number of the trial whose worker is killed each time."""


def running(log: list[Any]) -> list[Any]:
    """The jobs that have begun and not ended, in processes that live."""
    open_jobs: dict[int, Any] = {}
    for line in log:
        if line.event == "start":
            open_jobs[line.pid] = line
        elif line.event == "end":
            open_jobs.pop(line.pid, None)
    return [line for pid, line in open_jobs.items() if psutil.pid_exists(pid)]


def test_killed_workers_cost_attempts_and_nothing_else(
    lab: Any, acknowledged: Any, rng: random.Random
) -> None:
    lab.write_spec(workers__executor="ray", workers__count=2, search__trials=TRIALS)
    process = lab.start(pause_s=0.4)
    killed: Counter[str] = Counter()
    pids: set[int] = set()
    while process.poll() is None and killed.total() < KILLS:
        time.sleep(rng.random() * 0.2)
        trials = [trial for trial in lab.trials() if trial.state == "running"]
        # Whoever makes statistics for others loses an attempt too, so all in their last are spared.
        spared = any(trial.attempts == 3 and trial.number != POISONED for trial in trials)
        poison = [t.recipe[0]["choices"] for t in trials if t.number == POISONED]
        targets = [line for line in running(lab.log()) if line.pid not in pids]
        targets = [line for line in targets if not spared or line.what in poison]
        if targets:
            line = rng.choice(targets)
            os.kill(line.pid, signal.SIGKILL)
            pids.add(line.pid)
            killed[line.job] += 1
            acknowledged.note()
    print(f"killed: {dict(killed)}")
    assert killed.total() == KILLS, "the study was over before all kills"
    assert process.wait(180) == 0, lab.said()
    acknowledged.note()
    acknowledged.check()
    trials, study = lab.trials(), lab.study()
    assert (study.state, study.lease_owner) == ("finished", None)
    assert len(trials) == TRIALS
    failed = [trial for trial in trials if trial.state == "failed"]
    assert {trial.number for trial in failed} <= {POISONED}
    for trial in failed:
        assert trial.attempts == 3 and trial.reason.startswith("crashed: ")
    assert all(trial.state == "complete" for trial in trials if trial not in failed)
    assert sum(trial.attempts for trial in trials) <= TRIALS + KILLS
    starts = [line for line in lab.log() if line.event == "start" and line.job == "LadderJob"]
    assert len(starts) <= TRIALS + KILLS, "no more repetitions than kills"
    assert lab.problems() == []
    # What a worker was writing when it was killed is removed when the study is opened again.
    assert all(name.startswith(f"study-{study.id}-") for name in lab.leftovers())
