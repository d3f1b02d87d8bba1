"""Workers that are killed, that die by themselves, and that run out of memory."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SLOTS = 3


def new_lines(path: Path) -> Callable[[], Iterator[list[Any]]]:
    """Gives the whole lines of a log that came since the last call."""
    read = 0

    def more() -> Iterator[list[Any]]:
        nonlocal read
        text = path.read_bytes()[read:] if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        read += len(whole)
        return map(json.loads, whole.splitlines())

    return more


def kill_workers(stage: Any, process: Any, rng: random.Random, kills: int) -> Counter[str]:
    """Kills workers at random moments; every piece of work once at most, so that none is given up.

    A recipe has two pieces that may be killed under it, its statistics and its ladder, and three
    attempts.
    """
    killed: Counter[str] = Counter()
    spared: set[str] = set()
    working: dict[int, tuple[str, str]] = {}
    more = new_lines(stage.lab.folder / "log")
    while process.is_alive() and killed.total() < kills:
        for event, *rest in more():
            if event == "start":
                working[rest[2]] = rest[0], json.dumps(rest[1])
            elif event == "end":
                working.pop(rest[2], None)
        for pid, (job, what) in list(working.items()):
            if killed.total() == kills or what in spared or rng.random() < 0.5:
                continue
            spared.add(what)
            del working[pid]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[job] += 1
        time.sleep(rng.random() * 0.01)
    return killed


def test_killed_workers_cost_attempts_and_nothing_else(
    stage: Any, acknowledged: Any, rng: random.Random, size: Callable[..., int]
) -> None:
    kills, trials = size(100, 1000), size(500, 5000)
    stage.write_spec(search__strategies=["fisher"], search__trials=trials, search__time="10 h")
    process = stage.start(slots=SLOTS, pause_s=0.02, quick=True)
    killed = kill_workers(stage, process, rng, kills)
    print(f"killed: {dict(killed)}")
    assert killed.total() == kills, "the study was over before all kills"
    acknowledged.note()
    assert stage.end(process, 3600) == 0, stage.lab.said()
    acknowledged.note()
    acknowledged.check()
    stage.assert_finished({"complete": trials})
    lab = stage.lab
    acks = [line.what for line in lab.log() if line.event == "ack"]
    assert sorted(acks) == sorted(trial.id for trial in lab.trials())
    repeated = sum(trial.attempts - 1 for trial in lab.trials())
    # A kill that hits a worker that is done already costs nothing.
    assert kills / 4 <= repeated <= kills, "a kill costs one attempt, at most"


# Those that die by themselves


def die(how: str) -> None:
    if how == "segmentation fault":
        faulthandler.disable()
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(3)


def starts_by_recipe(lab: Any) -> Counter[str]:
    lines = [x for x in lab.log() if x.event == "start" and x.job == "LadderJob"]
    return Counter(json.dumps(line.what, sort_keys=True) for line in lines)


def test_poison_is_tried_three_times_and_costs_the_others_nothing(
    stage: Any, rng: random.Random
) -> None:
    trials, n_poison = 200, 20
    ways = ["segmentation fault", "exit", "kill"]
    poison = {number: rng.choice(ways) for number in rng.sample(range(trials), n_poison)}

    def fate(job: Any, number: int) -> None:
        if number in poison:
            die(poison[number])

    stage.write_spec(search__trials=trials)
    assert stage.run(slots=SLOTS, pause_s=0, fate=fate, quick=True) == 0, stage.lab.said()
    stage.assert_finished({"complete": trials - n_poison, "failed": n_poison})
    starts = starts_by_recipe(stage.lab)
    for trial in stage.lab.trials():
        n_starts = starts[json.dumps(trial.recipe[0]["choices"], sort_keys=True)]
        if trial.state == "failed":
            assert trial.reason.startswith("crashed: ")
            assert (trial.attempts, n_starts) == (3, 3)
        else:
            assert (trial.attempts, n_starts) == (1, 1)


def test_lack_of_memory_fails_a_trial_and_its_neighbours_come_out_the_same(
    stage: Any, rng: random.Random, size: Callable[..., int]
) -> None:
    """On the host and on the device; what was said is the reason, and it is not tried again."""
    each = size(5, 50)
    trials = 4 * each
    import torch

    kinds: dict[str, type[Exception]] = {
        "oom_host": MemoryError,
        "oom_device": torch.OutOfMemoryError,
    }
    numbers = rng.sample(range(trials), 2 * each)
    short = {number: list(kinds)[at % 2] for at, number in enumerate(numbers)}

    def fate(job: Any, number: int) -> None:
        if number in short:
            raise kinds[short[number]]("no room")

    stage.write_spec(search__trials=trials)
    assert stage.run(slots=SLOTS, pause_s=0, fate=fate, quick=True) == 0, stage.lab.said()
    stage.assert_finished({"complete": 2 * each, "failed": 2 * each})
    reasons = Counter(
        trial.reason.partition(":")[0] for trial in stage.lab.trials() if trial.reason
    )
    assert reasons == {"oom_host": each, "oom_device": each}
    assert {trial.attempts for trial in stage.lab.trials()} == {1}
