"""What is asked of timing, and what of it one timing answers: all figures of the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from trimtab_workers.latency.workload import Statistic, Workload

if TYPE_CHECKING:
    from trimtab_workers.latency.bench import BenchResult
    from trimtab_workers.latency.summary import Latency

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One figure to know: a statistic of a workload's requests, as a time or as a ratio."""

    statistic: Statistic
    workload: Workload
    is_relative: bool = False


@dataclass(frozen=True)
class Timing:
    """What is timed at once: figures of one workload, with their places among all asked for."""

    places: tuple[int, ...]
    asked: tuple[Asked, ...]

    def settings(self) -> dict[str, Any]:
        """Gives what a job of timing is told: the workload, and which figures must be sure."""
        ways = {each.is_relative for each in self.asked}
        statistics = dict.fromkeys(each.statistic for each in self.asked)
        first, *also = statistics
        return {
            "workload": self.asked[0].workload,
            "statistic": first,
            "also": tuple(also),
            "is_relative": ways == {True},
            "is_both": len(ways) == 2,
        }

    def figures(self, result: BenchResult) -> list[Latency]:
        """Gives the figures that were asked for, in order."""
        is_both = self.settings()["is_both"]
        return [
            (_ratio_of(result) if is_both and each.is_relative else result.latency).with_statistic(
                each.statistic
            )
            for each in self.asked
        ]


def timings_of(asked: Sequence[Asked]) -> list[Timing]:
    """Puts together what one timing answers, in the order in which workloads come first."""
    places: dict[Workload, list[int]] = {}
    for place, each in enumerate(asked):
        places.setdefault(each.workload, []).append(place)
    return [Timing(tuple(own), tuple(asked[place] for place in own)) for own in places.values()]


def in_order(timings: Sequence[Timing], found: Sequence[Sequence[T]]) -> list[T]:
    """Gives what each timing found in the order in which it was asked for."""
    placed = {
        place: each
        for timing, own in zip(timings, found, strict=True)
        for place, each in zip(timing.places, own, strict=True)
    }
    return [placed[place] for place in sorted(placed)]


def _ratio_of(result: BenchResult) -> Latency:
    assert result.ratio is not None, "who asks for times and ratios gets both"
    return result.ratio
