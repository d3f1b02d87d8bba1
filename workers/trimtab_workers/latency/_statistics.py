"""Statistics of times, and how sure they are.

Legend:
    ms       [requests, rounds], milliseconds
    counts   [draws, requests], how often a draw of the bootstrap took each request
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trimtab_workers.latency.workload import Statistic

Times = NDArray[np.float64]

CONFIDENCE = 0.95
QUANTILES: dict[Statistic, float] = {"p50": 0.5, "p95": 0.95}


def statistic_of(ms: Times, statistic: Statistic) -> float:
    """Gives a statistic of all times together."""
    if statistic == "mean":
        return float(ms.mean())
    return float(np.quantile(ms, QUANTILES[statistic]))


def drawn_counts(n_requests: int, n_draws: int, seed: int) -> NDArray[np.int64]:
    """Draws requests with replacement; with each come the times of all its rounds.

    The rounds of a request are no news about which texts will come, so they are not drawn singly.
    """
    random = np.random.default_rng(seed)
    return random.multinomial(n_requests, np.full(n_requests, 1 / n_requests), size=n_draws)


def drawn_statistics(ms: Times, counts: NDArray[np.int64]) -> dict[Statistic, Times]:
    """Gives each statistic in every draw, [draws]; one sort serves all draws and quantiles."""
    n_requests, n_rounds = ms.shape
    order = np.argsort(ms, axis=None)
    sorted_ms, owners = ms.ravel()[order], order // n_rounds
    # How many of a draw's times are no larger than each; one sequence, rising from draw to draw.
    ranks = np.cumsum(counts.astype(np.int32)[:, owners], axis=1)
    ranks += np.arange(len(counts), dtype=np.int32)[:, None] * np.int32(ms.size)

    def at(place: int) -> Times:
        wanted = np.arange(len(counts)) * ms.size + place
        found = np.searchsorted(ranks.ravel(), wanted, side="right")
        drawn: Times = sorted_ms[found - np.arange(len(counts)) * ms.size]
        return drawn

    drawn: dict[Statistic, Times] = {"mean": counts @ ms.mean(axis=1) / n_requests}
    for statistic, quantile in QUANTILES.items():
        place = (ms.size - 1) * quantile
        below, share = math.floor(place), place - math.floor(place)
        drawn[statistic] = (1 - share) * at(below) + share * at(math.ceil(place))
    return drawn


def interval_of(drawn: Times, value: float) -> tuple[float, float]:
    """Gives the ends between which 95 of 100 draws lie; the value itself is never outside."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return min(float(low), value), max(float(high), value)


def by_round(ms: Times, statistic: Statistic) -> Times:
    """Gives the statistic of each round, [rounds]: the same texts, so what differs is noise."""
    return np.array([statistic_of(times, statistic) for times in ms.T])


def noise_of(per_round: Times) -> float:
    """Gives half the width of the 95 % interval of the mean of rounds, relative to that mean."""
    if len(per_round) < 2:
        return math.inf
    spread = float(per_round.std(ddof=1)) / math.sqrt(len(per_round))
    return _t_quantile(len(per_round) - 1) * spread / float(per_round.mean())


def drift_of(per_round: Times) -> float:
    """Gives how much more the later half of the rounds takes than the earlier, as a ratio."""
    half = len(per_round) // 2
    return float(np.median(per_round[-half:]) / np.median(per_round[:half]) - 1) if half else 0.0


def _t_quantile(freedom: int) -> float:
    """Gives the 0.975 quantile of Student's t, to within 0.6 %."""
    exact = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}
    z = 1.959964
    return exact.get(freedom, z + (z**3 + z) / (4 * freedom) + _second_order(z) / freedom**2)


def _second_order(z: float) -> float:
    return (5 * z**5 + 16 * z**3 + 3 * z) / 96
