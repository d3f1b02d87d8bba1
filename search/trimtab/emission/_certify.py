"""Certifying: a chosen point measured on rows that nothing was chosen on, once and for good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.forge import Forge
from trimtab_storage import NewPoint, PointRow, Store, StudyRow
from trimtab_workers.jobs import MeasureJob, Measurement


@dataclass(frozen=True)
class Certificate:
    """Baseline and point measured on the certify rows, paired; what is new is not stored yet."""

    baseline: NewPoint | PointRow
    point: NewPoint | PointRow
    interval: tuple[float, float]
    max_drop: float | None
    n_certified: int

    @classmethod
    def measure(
        cls,
        store: Store,
        study: StudyRow,
        point: PointRow,
        forge: Forge,
        max_drop: float | None,
    ) -> Certificate:
        """Measures what was not measured yet; nothing is stored before ``record``."""
        assert study.baseline is not None
        key = study.baseline["artifact"]
        rows = {_key(row): row for row in store.points(study.id, split="certify")}
        dense = rows.get((key, "{}")) or _measured(forge, key, [], {}, None)
        ours = dense if _key(point) == (key, "{}") else rows.get(_key(point))
        # Measured on other rows than the baseline was, it says nothing beside it.
        if ours is None or ours.n != dense.n:
            ours = _measured(forge, point.artifact_key, point.recipe, point.knobs, dense)
        n_certified = sum(known != key for known, _ in {*rows, _key(ours)})
        half_width = 1.96 * _standard_error(dense.metric, ours.metric, ours.n)
        interval = (ours.drop - half_width, ours.drop + half_width)
        return cls(dense, ours, interval, max_drop, n_certified)

    def record(self, store: Store, study_id: int) -> None:
        """Stores what is new, each as a row of its own; a row that is there stays as it is."""
        for made in (self.baseline, self.point):
            if isinstance(made, NewPoint):
                store.add_certified_point(study_id, made)

    @property
    def holds(self) -> bool:
        """Tells whether the drop on unseen rows is within what was allowed."""
        return self.max_drop is None or self.point.drop <= self.max_drop + 1e-12

    def facts(self) -> dict[str, Any]:
        """Gives what manifest, card and command line say of it, as JSON-able values."""
        return {
            "max_drop": self.max_drop,
            "metric": self.point.metric,
            "baseline_metric": self.baseline.metric,
            "drop": self.point.drop,
            "drop_interval_95": list(self.interval),
            "n": self.point.n,
            "points_certified_so_far": self.n_certified,
        }


def _key(point: NewPoint | PointRow) -> tuple[str, str]:
    return point.artifact_key, json.dumps(point.knobs, sort_keys=True)


def _measured(
    forge: Forge,
    key: str,
    recipe: Sequence[dict[str, Any]],
    knobs: dict[str, Any],
    dense: NewPoint | PointRow | None,
) -> NewPoint:
    measured: Measurement = forge.run(
        MeasureJob(forge.place, key, "certify", knobs), "certifying on unseen rows"
    )
    reference = measured if dense is None else dense
    return NewPoint(
        artifact_key=key,
        recipe=list(recipe),
        knobs=knobs,
        split="certify",
        n=measured.n,
        metric=measured.metric,
        drop=reference.metric - measured.metric,
        flops=measured.flops,
        flops_ratio=measured.flops / reference.flops,
        params=measured.params,
        latency=None,
        feasible=False,
    )


def _standard_error(first: float, second: float, n: int) -> float:
    """Bounds the standard error of a difference of two metrics as if their rows were other ones.

    Both were measured on the same rows, where the true error is smaller; so this errs on the
    careful side. Metrics outside [0, 1] (Matthews) are treated like proportions of their size.
    """
    variance = sum(max(p * (1 - p), 0.0) for p in (min(abs(first), 1), min(abs(second), 1)))
    return float((variance / max(n, 1)) ** 0.5)
