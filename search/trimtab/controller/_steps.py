"""The steps of one recipe: how they are named, which are made already, and who makes the others."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.controller._baseline import Baseline
from trimtab.controller._points import PointMaker
from trimtab.forge import (
    measurement_name,
    model_key,
    new_artifact,
    statistics_key,
    stored_measurement,
)
from trimtab.selection import Limits
from trimtab_storage import NewArtifact, NewPoint, Store
from trimtab_strategies import registry
from trimtab_strategies.recipe import Step, to_plain
from trimtab_workers.jobs import (
    LadderJob,
    Measurement,
    Place,
    RungResult,
    StatisticsJob,
    StatisticsResult,
)

Rungs = tuple[tuple[float, str], ...]
"""Pairs of a cost, as a fraction of the parent's, and the key of the model made at that cost."""


class Steps:
    """Knows of every step whether it is made, makes jobs of the missing ones and rows of results.

    Reads the database and writes nothing.
    """

    def __init__(self, store: Store, place: Place, baseline: Baseline, limits: Limits) -> None:
        self._store, self._place, self._parent = store, place, baseline.key
        self._data = baseline.survey.data_fingerprint
        self._measurement = measurement_name(place.task.metric, self._data, "search")
        self._points = PointMaker(baseline.measurement, limits)

    def rungs(self, step: Step, costs: Sequence[float]) -> Rungs:
        """Names the models that a step makes at the given costs."""
        return tuple((cost, self._model_key(step, cost)) for cost in costs)

    def missing(self, rungs: Rungs) -> Rungs:
        """Gives the rungs that were not measured yet by anyone."""
        return tuple(rung for rung in rungs if self._measured(rung[1]) is None)

    def statistics_key(self, step: Step) -> str | None:
        """Names the statistics that a step starts from; None if its strategy needs none."""
        if not registry.get(step.strategy).statistics_choices:
            return None
        return statistics_key(self._parent, self._data, step)

    def statistics_job(self, step: Step, key: str) -> StatisticsJob:
        """Gives the job that makes statistics."""
        return StatisticsJob(self._place, self._parent, key, step.strategy, step.choices)

    def ladder_job(self, step: Step, rungs: Rungs) -> LadderJob:
        """Gives the job that makes and measures models."""
        key = self.statistics_key(step)
        return LadderJob(self._place, self._parent, key, step.strategy, step.choices, rungs)

    def statistics_row(self, step: Step, key: str, made: StatisticsResult) -> NewArtifact:
        """Gives the row of statistics that were just made."""
        return new_artifact(
            key, "statistics", self._parent, [], step.strategy, made.stored, None, "", made.seconds
        )

    def model_row(self, step: Step, made: RungResult) -> NewArtifact:
        """Gives the row of a model that was just made."""
        return new_artifact(
            made.key,
            "model",
            self._parent,
            to_plain([Step.of(step.strategy, made.choices)]),
            step.strategy,
            made.stored,
            made.measurement,
            self._measurement,
            made.seconds,
            **made.notes,
        )

    def points(self, step: Step, rungs: Rungs, results: Sequence[RungResult]) -> list[NewPoint]:
        """Gives the points of a ladder, of the rungs just made and of those made before."""
        made = {result.key: result.measurement for result in results}
        points = []
        for cost, key in rungs:
            measured = made.get(key) or self._measured(key)
            assert measured is not None, "a rung is either just made or measured before"
            recipe = to_plain([step.with_choices(constraint=cost)])
            points.append(self._points.point(key, recipe, measured))
        return points

    def _model_key(self, step: Step, cost: float) -> str:
        choices = {**step.choices_dict, "constraint": cost}
        return model_key(self._parent, self._data, step.strategy, choices)

    def _measured(self, key: str) -> Measurement | None:
        row = self._store.artifact(key)
        return None if row is None else stored_measurement(row, self._measurement)
