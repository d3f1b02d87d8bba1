"""From measurements to points: drop and cost against the baseline, feasibility by the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.selection import Limits, is_feasible
from trimtab_storage import NewPoint
from trimtab_workers.jobs import Measurement


@dataclass(frozen=True)
class PointMaker:
    """Prices measurements against one baseline and judges them by one set of limits."""

    baseline: Measurement
    limits: Limits

    def points(
        self, artifact_key: str, recipe: Sequence[dict[str, Any]], measured: Measurement
    ) -> list[NewPoint]:
        """Gives the point of an artifact as it is, and one for each setting of its knobs.

        The drop is against the baseline on the *same* split, so the baseline given must have been
        measured there.
        """
        plain = {"knobs": {}, "metric": measured.metric, "flops": measured.flops}
        return [
            self._point(artifact_key, recipe, measured, **setting)
            for setting in (plain, *measured.settings)
        ]

    def _point(
        self,
        artifact_key: str,
        recipe: Sequence[dict[str, Any]],
        measured: Measurement,
        knobs: dict[str, Any],
        metric: float,
        flops: float,
    ) -> NewPoint:
        point = NewPoint(
            artifact_key=artifact_key,
            recipe=list(recipe),
            knobs=knobs,
            split=measured.split,
            n=measured.n,
            metric=metric,
            drop=self.baseline.metric - metric,
            flops=flops,
            flops_ratio=flops / self.baseline.flops,
            params=measured.params,
            latency=None,
            feasible=False,
        )
        return replace(point, feasible=is_feasible(point, self.limits))  # type: ignore[arg-type]
