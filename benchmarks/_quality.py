"""Accuracy of the default recipe against the published one, at one share of the FLOPs.

Four tasks, three calibration seeds each, the dense model of a task fine-tuned once. Both recipes
see the same 1,024 calibration rows (the paper takes one to two thousand); nothing is chosen on the
rows that accuracy is reported on. Times are not compared here, so what cannot change the published
recipe's result is spared: its gradients, which do not depend on the share, are kept beside the
dense model, and its tuning, which sums over tokens, gets batches sorted by length.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import _published
import _tasks

SAMPLES, N_SEEDS = 1024, 3
TASKS = ("agnews", "trec", "sst2", "bbc")


def measure(share: float, seed: int, tasks: tuple[str, ...] = TASKS) -> list[Any]:
    """Gives a row for each task and seed: both accuracies, the dense one, one standard error."""
    rows = []
    for name in tasks:
        prepared = _tasks.prepare(name)
        dense = prepared.accuracy(prepared.model)
        for one in range(seed, seed + N_SEEDS):
            rows.append(
                {
                    "task": name,
                    "seed": one,
                    "share": share,
                    "dense": dense,
                    "ours": prepared.accuracy(ours(prepared, one, share)),
                    "published": prepared.accuracy(published(prepared, one, share)),
                    "n": len(prepared.report),
                }
            )
            print(rows[-1], flush=True)
    return rows


def ours(prepared: _tasks.Prepared, seed: int, share: float, **wanted: Any) -> Any:
    """Makes the model of the default recipe, or of one with other choices."""
    from trimtab_strategies import registry
    from trimtab_strategies.base import active_choices

    fisher = registry.get("fisher")
    choices = {choice.name: choice.default for choice in fisher.choices}
    choices = active_choices(fisher, {**choices, "calibration": SAMPLES, **wanted})
    calibration = prepared.calibration(seed)
    (variant,) = fisher.apply(prepared.model, calibration, choices, None, [share], _quiet)
    return variant.model


def published(prepared: _tasks.Prepared, seed: int, share: float) -> Any:
    """Makes the model of the published recipe."""
    import torch

    batches = prepared.unsorted_batches(seed, SAMPLES)
    kept = Path(_tasks.CACHE) / prepared.task.name / f"published-{SAMPLES}-{seed}.pt"
    if not kept.exists():
        torch.save(_published.batch_gradients(prepared.model, batches), kept)
    gradients = torch.load(kept, weights_only=True)
    by_length = prepared.calibration(seed).batches(SAMPLES, _tasks.BATCH_SIZE)
    return _published.finish(prepared.model, by_length, prepared.histogram, share, gradients)


def figures(rows: list[Any], share: float, seed: int) -> dict[str, dict[str, Any]]:
    """Gives the mean gain in points, and the worst task's in standard errors of its accuracy."""
    gains = {name: _gains(rows, name) for name in {row["task"]: None for row in rows}}
    percent = round(100 * share)
    common = {
        "baseline": "published recipe (benchmarks/_published.py), same calibration rows",
        "seeds": list(range(seed, seed + N_SEEDS)),
        "rows": rows,
    }
    return {
        f"fisher-quality-{percent}": {
            "figure": 100 * statistics.mean(gain for gain, _ in gains.values()),
            **common,
        },
        f"fisher-quality-{percent}-worst": {
            "figure": min(gain / error for gain, error in gains.values()),
            **common,
        },
    }


def declared(share: float, goal_points: float) -> list[dict[str, Any]]:
    """Gives the two declarations of a share's benchmark."""
    name = f"fisher-quality-{round(100 * share)}"
    return [
        {
            "name": name,
            "goal": goal_points,
            "unit": "points of accuracy above the published recipe, mean of four tasks",
            "better": "higher",
        },
        {
            "name": f"{name}-worst",
            "goal": -1.0,
            "unit": "standard errors above the published recipe, on the worst task",
            "better": "higher",
        },
    ]


def _gains(rows: list[Any], name: str) -> tuple[float, float]:
    own = [row for row in rows if row["task"] == name]
    accuracy, n = statistics.mean(row["ours"] for row in own), own[0]["n"]
    gain = statistics.mean(row["ours"] - row["published"] for row in own)
    return gain, math.sqrt(accuracy * (1 - accuracy) / n)


def _quiet(stage: str, done: int, total: int) -> None:
    pass
