"""How much faster is the whole Fisher pipeline than the published recipe on the same samples?

From a dense model to the pruned and tuned one, at 45 % of its FLOPs, both with all 2,048 samples
and all threads, taking turns. The published recipe is the one in ``_published.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import _published
import _tasks

BENCHMARKS = [
    {
        "name": "fisher-speed",
        "goal": 4.0,
        "unit": "x as fast as the published recipe, the slower of two tasks",
        "better": "higher",
    }
]
SAMPLES, CONSTRAINT, ROUNDS = 2048, 0.45, 3


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the ratio of median times and, as rows, every time."""
    rows = [_measure(_tasks.prepare(name), seed) for name in ("trec", "agnews")]
    return {
        "fisher-speed": {
            "figure": min(row["ratio"] for row in rows),
            "baseline": "published recipe (benchmarks/_published.py), same samples, same run",
            "seeds": [seed],
            "rows": rows,
        }
    }


def _measure(prepared: _tasks.Prepared, seed: int) -> dict[str, Any]:
    from trimtab_strategies import registry
    from trimtab_strategies.base import default_choices

    fisher = registry.get("fisher")
    choices = {**default_choices(fisher), "calibration": SAMPLES}
    calibration = prepared.calibration(seed)
    unsorted = prepared.unsorted_batches(seed, SAMPLES)

    def ours() -> None:
        list(fisher.apply(prepared.model, calibration, choices, None, [CONSTRAINT], _quiet))

    def published() -> None:
        _published.prune(prepared.model, unsorted, prepared.histogram, CONSTRAINT)

    pairs = [(_seconds(published), _seconds(ours)) for _ in range(ROUNDS)]
    return {
        "task": prepared.task.name,
        "mean_tokens": prepared.histogram.mean,
        "published_s": [first for first, _ in pairs],
        "ours_s": [second for _, second in pairs],
        "ratio": statistics.median(first / second for first, second in pairs),
    }


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _quiet(stage: str, done: int, total: int) -> None:
    pass
