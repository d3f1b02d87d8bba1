"""Two things go wrong at once, again and again, in one study."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, event

from trimtab_storage import Reader
from trimtab_workers import executors

pytestmark = pytest.mark.slow

PER_ROUND = 4
"""How many trials a round adds to the study."""


class Nemesis:
    """Breaks things around one controller; each method is one fault."""

    def __init__(self, stage: Any, rng: random.Random) -> None:
        self.stage, self.lab, self.rng = stage, stage.lab, rng
        self.spoilt: set[str] = set()

    # Before the controller starts: what is broken in its process

    def full_disk(self, patch: pytest.MonkeyPatch) -> None:
        """From some write on there is no room for the next few either."""
        left = itertools.count(-self.rng.randrange(5, 60))
        patch.setattr("trimtab.controller._room.LOOK_EVERY_S", 0.05)

        def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")) and 0 <= next(left) < 5:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error

        event.listen(Engine, "do_execute", execute)

    def lost_head(self, patch: pytest.MonkeyPatch) -> None:
        """The cluster is gone."""
        left, make = itertools.count(-self.rng.randrange(2, 20)), executors.make_executor

        def lose(*arguments: Any, **named: Any) -> Any:
            executor = make(*arguments, **named)
            wait = executor.wait

            def wait_or_lose(timeout_s: float) -> Any:
                if next(left) >= 0:
                    raise executors.ExecutorLostError("the cluster is gone")
                return wait(timeout_s)

            executor.wait = wait_or_lose  # type: ignore[method-assign]
            return executor

        patch.setattr(executors, "make_executor", lose)

    # While it works

    def killed_controller(self) -> None:
        self.stage.started[-1].kill()

    def killed_worker(self) -> None:
        lines = self.lab.log()
        ended = {line.pid for line in lines if line.event == "end"}
        for pid in {line.pid for line in lines if line.event == "start"} - ended:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def locked_database(self) -> None:
        """Another process takes the lock again and again, also while the next one starts."""
        path, until = self.lab.folder / "trimtab.db", time.monotonic() + 0.6

        def storm() -> None:
            client = sqlite3.connect(path, isolation_level=None, timeout=30)
            while time.monotonic() < until:
                client.execute("BEGIN IMMEDIATE")
                time.sleep(0.03)
                client.execute("ROLLBACK")

        multiprocessing.get_context("fork").Process(target=storm).start()

    def spoilt_file(self) -> None:
        """A bit of some artifact is flipped."""
        with Reader.open_reader(self.lab.db) as reader:
            kept = reader.kept_artifacts()
        if kept:
            row = self.rng.choice(kept)
            file = self.lab.folder / "trimtab-artifacts" / row.path / "model.safetensors"
            with suppress(FileNotFoundError):  # dropped a moment ago
                content = bytearray(file.read_bytes())
                content[self.rng.randrange(len(content))] ^= 1
                file.write_bytes(content)
                self.spoilt.add(row.key)

    def problems(self) -> list[str]:
        """What is wrong with the study, but for files that were spoilt and not needed since."""
        return [p for p in self.lab.problems() if not any(key in p for key in self.spoilt)]


BEFORE = ["full_disk", "lost_head"]
DURING = ["killed_controller", "killed_worker", "locked_database", "spoilt_file"]


def test_pairs_of_faults_lose_nothing_and_repeat_nothing(
    stage: Any, rng: random.Random, size: Callable[..., int]
) -> None:
    pairs, lab, nemesis = every_pair(rng), stage.lab, Nemesis(stage, rng)
    rounds = size(len(pairs), 50)
    chosen = [*pairs, *rng.choices(pairs, k=rounds - len(pairs))]
    codes: Counter[int | None] = Counter()
    for number, pair in enumerate(chosen):
        print(f"round {number}: {pair}")
        stage.write_spec(search__trials=PER_ROUND * (number + 1))
        before = {name_of(trial) for trial in lab.complete()}
        seen = len(lab.log())
        codes[suffer(stage, nemesis, pair)] += 1
        study = lab.study()
        if study is None:
            continue
        assert nemesis.problems() == []
        acks = [line.what for line in lab.log() if line.event == "ack"]
        assert len(acks) == len(set(acks)), "a result was recorded twice"
        assert set(acks) <= {trial.id for trial in lab.complete()}, "a result is lost"
        started = [x for x in lab.log()[seen:] if x.event == "start" and x.job == "LadderJob"]
        assert not before & {str(sorted(x.what.items())) for x in started}, "it ran again"
    print(f"exit codes: {dict(codes)}")
    assert stage.run(pause_s=0) == 0, lab.said()[-2000:]
    assert "Traceback" not in lab.said()
    states = Counter(trial.state for trial in lab.trials())
    assert states.keys() <= {"complete", "failed"} and states.total() == PER_ROUND * rounds
    assert (lab.study().state, lab.study().lease_owner) == ("finished", None)
    assert nemesis.problems() == []
    for trial in lab.trials():
        # Only who loses three workers is given up; a controller's end is no trial's fault.
        assert trial.state == "complete" or (trial.attempts, trial.reason[:8]) == (3, "crashed:")


def every_pair(rng: random.Random) -> list[tuple[str, ...]]:
    """All kinds of pairs, in any order."""
    pairs = list(itertools.combinations(BEFORE + DURING, 2))
    return rng.sample(pairs, len(pairs))


def name_of(trial: Any) -> str:
    return str(sorted(trial.recipe[0]["choices"].items()))


def suffer(stage: Any, nemesis: Nemesis, pair: tuple[str, ...]) -> int | None:
    """Starts a controller that two things befall; gives how it ended."""

    def prepare(patch: pytest.MonkeyPatch) -> None:
        for fault in set(pair) & set(BEFORE):
            getattr(nemesis, fault)(patch)

    seen = len(stage.lab.log())
    process = stage.start(prepare=prepare)
    stage.began(nemesis.rng.randrange(1, 5), seen)
    for fault in sorted(set(pair) & set(DURING), key=lambda fault: nemesis.rng.random()):
        time.sleep(nemesis.rng.random() * 0.05)
        getattr(nemesis, fault)()
    code: int | None = stage.end(process)
    return code
