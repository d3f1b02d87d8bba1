"""What does each stage of the Fisher pipeline add? The paper's Table 3, on TREC.

Search alone, with rearrangement, and with either kind of tuning behind it, at three shares of the
FLOPs and three calibration seeds. Every stage may refuse itself on held-back calibration rows.
"""

from __future__ import annotations

import statistics
from typing import Any

import _quality
import _tasks

BENCHMARKS = [
    {
        "name": "fisher-ablation",
        "goal": 0.0,
        "unit": "points that the last stage (projections) adds to the stage before, TREC, mean",
        "better": "higher",
    }
]
STAGES: dict[str, dict[str, Any]] = {
    "search": {"rearrange": False, "tuning": "none"},
    "+ rearrange": {"tuning": "none"},
    "+ scales": {"tuning": "scale"},
    "+ projections": {"tuning": "projection"},
    "+ projections, remeasured": {"tuning": "projection", "remeasure": True},
    "labels: + projections": {"tuning": "projection", "importance": "labels"},
}
SHARES = (0.6, 0.45, 0.3)


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the gain of projections over rearrangement and, as rows, every stage's accuracies."""
    prepared = _tasks.prepare("trec")
    rows = [{"dense": prepared.accuracy(prepared.model)}]
    seeds = list(range(seed, seed + _quality.N_SEEDS))
    for share in SHARES:
        for stage, wanted in STAGES.items():
            models = [_quality.ours(prepared, one, share, **wanted) for one in seeds]
            found = [prepared.accuracy(model) for model in models]
            mean = statistics.mean(found)
            rows.append({"share": share, "stage": stage, "accuracies": found, "mean": mean})
            print(rows[-1], flush=True)
    means = {(row["share"], row["stage"]): row["mean"] for row in rows[1:]}
    gains = [means[share, "+ projections"] - means[share, "+ rearrange"] for share in SHARES]
    return {
        "fisher-ablation": {
            "figure": 100 * statistics.mean(gains),
            "baseline": "the same recipe without tuning",
            "seeds": seeds,
            "rows": rows,
        }
    }
