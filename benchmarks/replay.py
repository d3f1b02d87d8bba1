"""Times the exact curve: from recorded logits to the cost and confusion at every threshold.

The records are random, which is the hardest case: hardly two uncertainties are equal, so there is
a threshold for almost every sample and exit at which it could leave.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.records import Records
from trimtab_strategies.replay import (
    Curve,
    leaves_by_entropy,
    leaving_macs,
    quantities_of,
    sweep_entropy,
    uncertainty,
)

N_SAMPLES, N_LAYERS, N_CLASSES, REPEATS = 10_000, 24, 2, 5
EXIT_LAYERS = tuple(range(0, N_LAYERS - 1, 2))  # 12 exits
SHAPE = EncoderShape.dense(hidden_size=1024, n_layers=N_LAYERS, n_heads=16, n_filters=4096)
EXIT_MACS = 1024 * 128 + 128 * 128 + 128 * N_CLASSES  # reads the first token alone

BENCHMARKS = [
    {
        "name": "replay",
        "goal": 1.0,
        "unit": "s for all thresholds of 10,000 samples with 12 exits",
        "better": "lower",
    }
]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the median time of one whole curve, after checking some of it sample by sample."""
    records = random_records(seed)
    _check(records, curve_of(records))
    rows = [_timed(records) for _ in range(REPEATS)]
    return {
        "replay": {
            "figure": statistics.median(row["seconds"] for row in rows),
            "baseline": "none: an absolute bound",
            "seeds": [seed],
            "rows": rows,
        }
    }


def random_records(seed: int) -> Records:
    """Draws records of a large encoder whose logits grow from exit to exit."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 129, N_SAMPLES)
    kept = np.minimum.accumulate(
        rng.integers(1, lengths[:, None] + 1, (N_SAMPLES, N_LAYERS)), axis=1
    )
    depth = np.linspace(0.5, 4.0, len(EXIT_LAYERS) + 1)[:, None]
    logits = rng.normal(size=(N_SAMPLES, len(EXIT_LAYERS) + 1, N_CLASSES)) * depth
    labels = rng.integers(0, N_CLASSES, N_SAMPLES)
    return Records(lengths, kept, EXIT_LAYERS, logits[:, :-1], logits[:, -1], labels)


def curve_of(records: Records) -> Curve:
    """Does all that a trial does with its records."""
    macs = leaving_macs(SHAPE, records, "ltp", exit_macs)
    return sweep_entropy(uncertainty(records.exit_logits), quantities_of(records, macs))


def exit_macs(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full_like(tokens, EXIT_MACS)


def _timed(records: Records) -> dict[str, Any]:
    start = time.perf_counter()
    curve = curve_of(records)
    return {"seconds": time.perf_counter() - start, "thresholds": len(curve.settings)}


def _check(records: Records, curve: Curve) -> None:
    quantities = quantities_of(records, leaving_macs(SHAPE, records, "ltp", exit_macs))
    u = uncertainty(records.exit_logits)
    for at in np.linspace(0, len(curve.settings) - 1, 50).astype(int):
        leaves = leaves_by_entropy(u, curve.settings[at])
        sums = quantities[np.arange(N_SAMPLES), leaves].sum(axis=0)
        if not np.array_equal(sums, curve.sums[at]):
            raise AssertionError(f"the curve is wrong at threshold {curve.settings[at]}")
