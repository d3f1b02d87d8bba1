"""A latency: a statistic of many requests' times, how sure it is, and whether to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from trimtab_workers.latency._statistics import (
    Times,
    drawn_counts,
    drawn_statistics,
    interval_of,
    statistic_of,
)
from trimtab_workers.latency._verdict import Evidence, reason_to_doubt
from trimtab_workers.latency.workload import STATISTICS, Statistic

Verdict = Literal["stable", "unstable"]

N_DRAWS = 1000
SEED = 0


@dataclass(frozen=True)
class Latency:
    """What requests took, in milliseconds, beside what the baseline took in the same rounds.

    Attributes:
        statistic: What ``value``, ``baseline`` and ``ratio`` are.
        low, high: The 95 % interval of ``value``, for other texts of the same kind.
        intervals: The same for every statistic.
        threads: CPU threads that a request had.
        n_requests, n_rounds: How many requests were timed, and how often each.
        ratio, ratio_low, ratio_high: Ours over the baseline's, and its interval; the same texts for
            both in every draw.
        verdict: ``unstable`` where the figures cannot be trusted, for the ``reason`` given.
        speed: What all times were multiplied by to state them at the reference's speed; 1 where
            there was no reference.
        figures: For each statistic, the values of all the fields that depend on it.
    """

    statistic: Statistic
    value: float
    low: float
    high: float
    p50: float
    p95: float
    mean: float
    intervals: dict[str, list[float]]
    batch_size: int
    device: str
    threads: int
    n_requests: int
    n_rounds: int
    baseline: float
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: Verdict
    reason: str | None = None
    speed: float = 1.0
    figures: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def with_statistic(self, statistic: Statistic) -> Latency:
        """Restates the latency for another statistic of the same times."""
        if statistic == self.statistic:
            return self
        return replace(self, statistic=statistic, **self.figures[statistic])

    def relative_to(self, reference: Latency) -> Latency:
        """States every statistic as its ratio to the baseline's, times what that was once.

        For a budget relative to the baseline: the ratio was measured in pairs, so its interval is
        about the models alone, and which texts came matters little.
        """
        figures = {}
        for name, own in self.figures.items():
            base = reference.figures[name]["value"]
            scaled = {"value": own["ratio"], "low": own["ratio_low"], "high": own["ratio_high"]}
            figures[name] = {**own, **{k: v * base for k, v in scaled.items()}, "baseline": base}
        return replace(
            self,
            **figures[self.statistic],
            **{name: figures[name]["value"] for name in STATISTICS},
            intervals={name: [figures[name]["low"], figures[name]["high"]] for name in STATISTICS},
            figures=figures,
        )

    def to_plain(self) -> dict[str, Any]:
        """Gives the latency as JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Latency:
        """Reads what :meth:`to_plain` gave; what others added beside it is left out."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in names})


def summarise(
    ours_ms: ArrayLike,
    baseline_ms: ArrayLike,
    statistic: Statistic,
    *,
    batch_size: int = 1,
    device: str = "cpu",
    threads: int = 1,
    waited: float | None = None,
    reference_p50_ms: float | None = None,
    is_relative: bool = False,
    seed: int = SEED,
) -> Latency:
    """Sums up paired times.

    With a reference, all times are stated at its speed: multiplied by the reference over what the
    baseline's p50 is now. Points of a study that were timed hours apart are then comparable, and
    compare as their ratios to the baseline do.

    Args:
        ours_ms: [requests, rounds], milliseconds.
        baseline_ms: The same requests in the same rounds.
        statistic: What to state.
        batch_size: Texts of a request.
        device: What the requests ran on.
        threads: CPU threads that they had.
        waited: The part of the time that the process waited for a processor; None if not known.
        reference_p50_ms: The baseline's p50 when the study began.
        is_relative: Whether the ratio to the baseline is what is asked for, and to be trusted.
        seed: Of the bootstrap.

    Raises:
        ValueError: if the times are not paired, not positive or none.
    """
    ours, baseline = _checked(ours_ms, baseline_ms)
    now_ms = statistic_of(baseline, "p50")
    speed = 1.0 if reference_p50_ms is None else reference_p50_ms / now_ms
    evidence = Evidence(ours, baseline, waited, reference_p50_ms, is_relative)
    figures = _figures(ours * speed, baseline * speed, seed)
    for name in STATISTICS:
        reason = reason_to_doubt(evidence, name)
        figures[name] |= {"verdict": "unstable" if reason else "stable", "reason": reason}
    return Latency(
        statistic=statistic,
        **figures[statistic],
        **{name: figures[name]["value"] for name in STATISTICS},
        intervals={name: [figures[name]["low"], figures[name]["high"]] for name in STATISTICS},
        batch_size=batch_size,
        device=device,
        threads=threads,
        n_requests=ours.shape[0],
        n_rounds=ours.shape[1],
        speed=speed,
        figures=figures,
    )


def _checked(ours_ms: ArrayLike, baseline_ms: ArrayLike) -> tuple[Times, Times]:
    ours, baseline = np.asarray(ours_ms, dtype=float), np.asarray(baseline_ms, dtype=float)
    if ours.ndim != 2 or ours.shape != baseline.shape or not ours.size:
        raise ValueError(
            "times must be two tables [requests, rounds] of one shape, but got "
            f"{ours.shape} and {baseline.shape}"
        )
    every = np.stack([ours, baseline])
    if not (np.isfinite(every) & (every > 0)).all():
        raise ValueError("times must be positive numbers of milliseconds")
    return ours, baseline


def _figures(ours: Times, baseline: Times, seed: int) -> dict[str, dict[str, Any]]:
    counts = drawn_counts(len(ours), N_DRAWS, seed)
    drawn, drawn_baseline = drawn_statistics(ours, counts), drawn_statistics(baseline, counts)
    found = {}
    for name in STATISTICS:
        value, base = statistic_of(ours, name), statistic_of(baseline, name)
        low, high = interval_of(drawn[name], value)
        ratio_low, ratio_high = interval_of(drawn[name] / drawn_baseline[name], value / base)
        found[str(name)] = {
            "value": value,
            "low": low,
            "high": high,
            "baseline": base,
            "ratio": value / base,
            "ratio_low": ratio_low,
            "ratio_high": ratio_high,
        }
    return found
