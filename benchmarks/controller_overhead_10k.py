"""What does the controller itself cost a trial, in a study of ten thousand trials?

As `controller_overhead`, but every fiftieth recipe alone is asked of the real sampler, whose own
time does not count; the others are uniform draws from the same space, to end in minutes.
"""

from __future__ import annotations

from typing import Any

import _overhead

N_TRIALS, SAMPLE_EVERY = 10_000, 50

BENCHMARKS = [
    {
        "name": "controller-overhead-10k",
        "goal": 50.0,
        "unit": "ms a trial at 10,000 trials, without the sampler's own time",
        "better": "lower",
    }
]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Runs the study; a row for each tenth of it shows how costs grow."""
    return {"controller-overhead-10k": _overhead.measured(N_TRIALS, seed, SAMPLE_EVERY)}
