"""Trials that run out of memory, die or hang, in real worker processes and in this one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psutil
import pytest

from trimtab_storage import Reader
from trimtab_workers.jobs import LadderJob

pytestmark = pytest.mark.slow

REASONS = {"host": "oom_host", "device": "oom_device", "dies": "crashed", "hangs": "timeout"}
OOM_WITHIN_S, HUNG_WITHIN_S, TIMEOUT_S = 15, 10, 2
TRIAL_TIMEOUT_S = 45
"""Enough for what these trials really do, in a new worker on a busy machine too."""
HUNG = """
import ctypes, json, os, signal, sys, time
from dataclasses import dataclass
from trimtab_workers.executors import make_executor

@dataclass(frozen=True)
class Hang:
    number: int
    def run(self, context):
        # Deaf to SIGTERM, and in C, where only some let go of the interpreter's lock.
        ctypes.CDLL(None).signal(signal.SIGTERM, signal.SIG_IGN)
        with open(f"began-{self.number}", "w") as file:
            file.write(str(time.time()))
        library = ctypes.PyDLL(None) if self.number % 2 else ctypes.CDLL(None)
        while True:
            library.sleep(1000)

@dataclass(frozen=True)
class Well:
    def run(self, context):
        return "well"

n, timeout_s = int(sys.argv[1]), float(sys.argv[2])
said = {}
with make_executor(
    "ray", count=10, cpus_each=0.1, gpus_each=0, device="cpu", address=None
) as executor:
    for number in range(n):
        executor.submit(Hang(number), timeout_s=timeout_s), executor.submit(Well())
    while len(said) < 2 * n:
        for outcome in executor.wait(1):
            reason = outcome.failure.reason if outcome.failure else outcome.value
            said[outcome.ticket] = reason, time.time()
print(json.dumps([said[ticket] for ticket in sorted(said)]))
"""


def fates_of(lab: Any) -> dict[str, list[tuple[str, float]]]:
    """What befell each recipe, and when, at every attempt."""
    found: dict[str, list[tuple[str, float]]] = {}
    for text in (lab.folder / "log").read_text().splitlines():
        event, *rest = json.loads(text)
        if event == "fate":
            found.setdefault(rest[1], []).append((rest[0], rest[2]))
    return found


def test_bad_trials_fail_with_their_reason_and_cost_the_others_nothing(
    lab: Any, size: Callable[..., int], monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    n = {"host": size(2, 50), "device": size(1, 50), "dies": size(1, 20), "well": size(2, 60)}
    n["hangs"] = size(1, 20)
    fates = [fate for fate, count in n.items() for _ in range(count)]
    rng.shuffle(fates)
    (lab.folder / "fates").write_text(" ".join(fates))
    monkeypatch.setenv("FAULT_FATES", str(lab.folder))
    workers = {"executor": "ray", "count": 2, "device": "cpu"}
    workers["trial_timeout"] = f"{TRIAL_TIMEOUT_S} s"
    lab.write_spec(workers=workers, search__trials=len(fates), search__time="10 h")
    assert lab.start(pause_s=0).wait(200 + 20 * len(fates)) == 0, lab.said()
    assert (lab.study().state, lab.study().lease_owner) == ("finished", None)
    assert lab.problems() == []
    befell, trials = fates_of(lab), lab.trials()
    assert len(trials) == len(fates)
    for trial in trials:
        told = befell[json.dumps(trial.recipe[0]["choices"], sort_keys=True)]
        (fate,) = {fate for fate, _ in told}
        assert len(told) == (3 if fate == "dies" else 1)
        assert trial.state == ("complete" if fate == "well" else "failed")
        assert fate == "well" or trial.reason.startswith(f"{REASONS[fate]}: ")
        took_s = datetime.fromisoformat(trial.finished_at).timestamp() - told[-1][1]
        assert fate != "host" or took_s < OOM_WITHIN_S
        assert fate != "hangs" or took_s < TRIAL_TIMEOUT_S + HUNG_WITHIN_S
    found = Counter(told[0][0] for told in befell.values())
    assert found == Counter(fates)


def test_what_follows_a_lack_of_device_memory_finds_it_free_and_measures_the_same(
    lab: Any, whole: Any, size: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in this process, so that whatever is left over is left to the next trial."""
    import torch

    import trimtab

    trials, run, at_start = 2 * size(4, 50), LadderJob.run, []

    def run_short(self: LadderJob, context: Any) -> Any:
        at_start.append(psutil.Process().memory_info().rss)
        value = run(self, context)
        if len(at_start) % 2:
            kept: list[Any] = [torch.ones(2**25), value]  # 128 MiB, and only the collector
            kept.append(kept)  # finds that nobody needs them
            raise torch.OutOfMemoryError("CUDA out of memory")
        return value

    monkeypatch.setattr(LadderJob, "run", run_short)
    monkeypatch.setattr("trimtab.emission._emit.verify_in_fresh_process", trimtab.verify)
    lab.write_spec(search__trials=trials)
    assert lab.run_here() == 0
    assert [trial.state for trial in lab.trials()] == ["failed", "complete"] * (trials // 2)
    assert all(t.reason.startswith("oom_device: ") for t in lab.trials() if t.reason)
    assert lab.problems() == []
    grown = [rss - at_start[1] for rss in at_start[2:]]
    assert max(grown) < 50 * 2**20, f"{[round(rss / 2**20) for rss in grown]} MiB"
    before, after = measured(whole), measured(lab)
    same = before.keys() & after.keys()
    assert len(same) >= 3, "recipes of the start are the same whatever fails"
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


def measured(lab: Any) -> dict[str, float]:
    """The metric of every model but the baseline."""
    with Reader.open_reader(lab.db) as reader:
        points = reader.points(lab.study().id)
    return {point.artifact_key: point.metric for point in points if point.recipe}


def test_hung_jobs_end_soon_after_their_time(lab: Any) -> None:
    n = 20
    script = lab.folder / "hung.py"
    script.write_text(HUNG)
    said = subprocess.run(
        [sys.executable, str(script), str(n), str(TIMEOUT_S)],
        capture_output=True,
        text=True,
        timeout=120 + 20 * n,
        cwd=lab.folder,
        env={**os.environ, "HOME": str(lab.files)},
    )
    assert said.returncode == 0, said.stderr
    outcomes = json.loads(said.stdout)
    assert [reason for reason, _ in outcomes] == ["timeout", "well"] * n
    for number in range(n):
        began = float((lab.folder / f"began-{number}").read_text())
        assert outcomes[2 * number][1] - began < TIMEOUT_S + HUNG_WITHIN_S
