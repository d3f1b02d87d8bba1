"""What does the controller itself cost a trial, in a study of a thousand trials?

Real controller, real database on disk with every commit synced; played workers answer at once.
From the time of the whole study those are taken away that the sampler took to propose and the
workers to make up results; what is left is the controller's, divided by the trials.
"""

from __future__ import annotations

from typing import Any

import _overhead

N_TRIALS = 1_000

BENCHMARKS = [
    {
        "name": "controller-overhead",
        "goal": 50.0,
        "unit": "ms a trial at 1,000 trials, without the sampler's own time",
        "better": "lower",
    }
]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Runs the study with the real sampler; a row for each tenth of it shows how costs grow."""
    return {"controller-overhead": _overhead.measured(N_TRIALS, seed, sample_every=1)}
