"""Whether a measured latency can be trusted, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab_workers.latency._statistics import Times, by_round, drift_of, noise_of, statistic_of
from trimtab_workers.latency.workload import Statistic

LEAST_ROUNDS = 3
LEAST_REQUESTS: dict[Statistic, int] = {"p50": 20, "p95": 72, "mean": 20}
"""With 72 requests the slowest is above the true p95 in 97.5 % of cases; with fewer, no interval
taken from them reaches up far enough."""
MOST_WAITED = 0.05
"""The part of the time that threads may have waited for a processor which others had."""
MOST_DRIFT = 0.10
"""How much the later rounds may differ from the earlier ones."""
MOST_NOISE = 0.10
"""How far the rounds may leave the statistic uncertain, the texts being what they are."""
MOST_CHANGE = 0.15
"""How much the baseline may differ from what it took when the study began."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a verdict is based on: paired times, [requests, rounds], and how they came about."""

    ours: Times
    baseline: Times
    waited: float | None
    reference_p50_ms: float | None = None
    is_relative: bool = False


def reason_to_doubt(evidence: Evidence, statistic: Statistic) -> str | None:
    """Says in a sentence why the statistic cannot be trusted; None where it can.

    The cause comes before its effects: a process that was held up is also slow and noisy.
    """
    return (
        _too_few(evidence, statistic)
        or _held_up(evidence.waited)
        or _another_speed(evidence)
        or _unsteady(evidence, statistic)
    )


def _too_few(evidence: Evidence, statistic: Statistic) -> str | None:
    n_requests, n_rounds = evidence.ours.shape
    if n_requests < LEAST_REQUESTS[statistic]:
        return (
            f"{statistic} needs at least {LEAST_REQUESTS[statistic]} requests, but only "
            f"{n_requests} were timed"
        )
    if n_rounds < LEAST_ROUNDS:
        return f"at least {LEAST_ROUNDS} rounds are needed, but only {n_rounds} were timed"
    return None


def _held_up(waited: float | None) -> str | None:
    if waited is None or waited <= MOST_WAITED:
        return None
    return (
        f"other work was running: the process waited for a processor for {waited:.0%} of the time"
    )


def _another_speed(evidence: Evidence) -> str | None:
    if evidence.reference_p50_ms is None:
        return None
    now = statistic_of(evidence.baseline, "p50")
    change = now / evidence.reference_p50_ms - 1
    if abs(change) <= MOST_CHANGE:
        return None
    return (
        f"the machine runs at another speed: the baseline's p50 is {now:.4g} ms, but was "
        f"{evidence.reference_p50_ms:.4g} ms when the study began ({change:+.0%})"
    )


def _unsteady(evidence: Evidence, statistic: Statistic) -> str | None:
    for name, rounds in _series(evidence, statistic).items():
        drift, noise = drift_of(rounds), noise_of(rounds)
        if abs(drift) > MOST_DRIFT:
            return f"{name} changed by {drift:+.0%} from the earlier rounds to the later ones"
        if noise > MOST_NOISE:
            return f"the rounds differ: they tell {name} no better than to within {noise:.0%}"
    return None


def _series(evidence: Evidence, statistic: Statistic) -> dict[str, Times]:
    """Gives what is to be steady from round to round.

    Where a ratio is asked for, and at the baseline's reference speed a latency is one too, a change
    of pace that both have in common leaves it as it is.
    """
    ours, baseline = by_round(evidence.ours, statistic), by_round(evidence.baseline, statistic)
    if evidence.reference_p50_ms is None and not evidence.is_relative:
        return {f"the model's {statistic}": ours, f"the baseline's {statistic}": baseline}
    return {f"the ratio of {statistic} to the baseline's": ours / baseline}
