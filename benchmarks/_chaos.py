"""Kills the workers and the controller of a real study, and counts what came of it.

Studies, their plug-in and its log are those of the tests of faults, so that both look at the same:
what was acknowledged is written down outside of the database, where no kill can take it back.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from trimtab_storage import TrialRow

LAB = Path(__file__).resolve().parents[1] / "tests" / "trimtab" / "controller" / "faults"
PATIENCE_S, ENDS_WITHIN_S, PAUSE_S = 180.0, 900.0, 0.3
MORE_TRIALS = 10
"""How many are added when a study is over before all kills."""
MOST_ATTEMPTS = 3


def load_lab() -> ModuleType:
    """Imports the lab of the tests."""
    spec = importlib.util.spec_from_file_location("faults_lab", LAB / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Chaos:
    """One study and what befell it; ``lab`` starts its controllers and reads its log."""

    lab: Any
    rng: random.Random
    trials: int
    kills: Counter[str] = field(default_factory=Counter)
    again: int = 0
    outlived: int = 0
    lost: int = 0
    _killed: set[int] = field(default_factory=set)
    _hit: Counter[str] = field(default_factory=Counter)
    _seen: int = 0
    _done: set[str] = field(default_factory=set)

    def run(self, worker_kills: int, controller_kills: int) -> dict[str, Any]:
        """Kills so many, lets the study come to its end, and gives the row of it."""
        began = time.monotonic()
        faults = ["worker"] * worker_kills + ["controller"] * controller_kills
        self.rng.shuffle(faults)
        self._write_spec()
        try:
            process = self.lab.start(pause_s=PAUSE_S)
            for fault in faults:
                kill = self._kill_worker if fault == "worker" else self._kill_controller
                process = kill(self._await_work(process))
                self.kills[fault] += 1
            code = process.wait(ENDS_WITHIN_S)
        finally:
            for started in self.lab.started:
                started.kill()
        self._look()
        return self._row(code, time.monotonic() - began)

    def _write_spec(self) -> None:
        workers = {"executor": "ray", "count": 2, "device": "cpu"}
        self.lab.write_spec(workers=workers, search__trials=self.trials, search__time="10 h")

    def _await_work(self, process: Any) -> Any:
        """Waits until a worker has a job; starts the controller again when its study is over."""
        until = time.monotonic() + PATIENCE_S
        while not self._at_work(process):
            if process.poll() is not None:
                self._look()
                self.trials += MORE_TRIALS
                self._write_spec()
                process = self.lab.start(pause_s=PAUSE_S)
                until = time.monotonic() + PATIENCE_S
            if time.monotonic() > until:
                raise RuntimeError(f"nothing happens any more: {self.lab.said()[-2000:]}")
            time.sleep(0.05)
        time.sleep(self.rng.random() * 0.5)
        return process

    def _at_work(self, process: Any) -> dict[int, str]:
        """Gives the workers of a controller that have begun a job and not ended it, and the job."""
        working: dict[int, str] = {}
        for line in self.lab.log():
            if line.event == "up":
                working.clear()
            elif line.event == "start":
                working[line.pid] = json.dumps(line.what, sort_keys=True)
            elif line.event == "end":
                working.pop(line.pid, None)
        left = sorted(working.keys() - self._killed)
        return {pid: working[pid] for pid in left if psutil.pid_exists(pid)}

    def _kill_worker(self, process: Any) -> Any:
        """Kills one at work, unless a trial is in its last attempt, after which it is given up.

        Nor a third time at one job: what adds to a complete trial has no attempts to look at.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            process = self._await_work(process)
            running = [trial for trial in self.lab.trials() if trial.state == "running"]
            at_work = self._at_work(process)
            targets = [pid for pid, job in at_work.items() if self._hit[job] < MOST_ATTEMPTS - 1]
            if targets and all(trial.attempts < MOST_ATTEMPTS for trial in running):
                break
            if time.monotonic() > until:
                raise RuntimeError(f"a last attempt does not end: {self.lab.said()[-2000:]}")
        pid = self.rng.choice(targets)
        self._killed.add(pid)
        self._hit[at_work[pid]] += 1
        os.kill(pid, signal.SIGKILL)
        return process

    def _kill_controller(self, process: Any) -> Any:
        """Kills it, waits for the workers it takes along, and starts the same command again."""
        # Two idle helpers of Ray go a minute later.
        workers = [p for p in self.lab.family(process) if p.name().startswith("ray::Worker")]
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
        self.outlived += len(alive)
        self._look()
        return self.lab.start(pause_s=PAUSE_S)

    # What came of it

    def _look(self) -> None:
        """Compares log and database: is what was acknowledged there, did what is done begin again?

        Acknowledged results are read first, so that the database cannot be behind them.
        """
        log, complete = self.lab.log(), self.lab.complete()
        acks = {line.what for line in log if line.event == "ack"}
        self.lost = max(self.lost, len(acks - {trial.id for trial in complete}))
        begun = [x for x in log[self._seen :] if x.event == "start" and x.job == "LadderJob"]
        self.again += sum(json.dumps(x.what, sort_keys=True) in self._done for x in begun)
        self._seen, self._done = len(log), {_name(trial) for trial in complete}

    def _row(self, code: int, seconds: float) -> dict[str, Any]:
        log, trials, study = self.lab.log(), self.lab.trials(), self.lab.study()
        acks = Counter(line.what for line in log if line.event == "ack")
        states = Counter(str(trial.state) for trial in trials)
        is_open = (str(study.state), study.lease_owner) != ("finished", None) or code != 0
        not_ended = sum(states.values()) - states["complete"] - states["failed"]
        return {
            "worker_kills": self.kills["worker"],
            "controller_kills": self.kills["controller"],
            "trials": len(trials),
            "failed": states["failed"],
            "jobs_begun": sum(line.event == "start" for line in log),
            "attempts_lost": sum(trial.attempts - 1 for trial in trials),
            "seconds": round(seconds, 1),
            "lost": self.lost,
            "doubled": sum(n - 1 for n in acks.values()) + self.again,
            "outlived": self.outlived,
            "stuck": not_ended + is_open + (self.trials - len(trials)),
            "broken_invariants": len(self.lab.problems()),
        }


def _name(trial: TrialRow) -> str:
    return json.dumps(trial.recipe[0]["choices"], sort_keys=True)
