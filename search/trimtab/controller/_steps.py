"""The steps of one recipe: how they are named, which are made already, and who makes the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from trimtab_storage import NewArtifact, NewPoint, Reader
from trimtab_strategies import registry
from trimtab_strategies.recipe import Recipe, Step, to_plain
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

CONSTRAINT = "constraint"
AS_IT_COMES = 1.0
"""The rung of a strategy that cannot aim at a cost."""


@dataclass(frozen=True)
class Link:
    """One step of a recipe on the model that the steps before it made.

    ``before`` are those steps; ``rungs`` are the models that this one makes. All links of a recipe
    but the last have one rung, which is the parent of the next.
    """

    parent: str
    before: Recipe
    step: Step
    rungs: Rungs

    @property
    def choices(self) -> Step:
        """The step without the cost that it is made at."""
        return without_constraint(self.step)


class Steps:
    """Knows of every step whether it is made, makes jobs of the missing ones and rows of results.

    Reads the database and writes nothing.
    """

    def __init__(self, store: Reader, place: Place, baseline: Baseline, limits: Limits) -> None:
        self._store, self._place, self._baseline = store, place, baseline.key
        self._data = baseline.survey.data_fingerprint
        self._measurement = measurement_name(place.task.metric, self._data, "search")
        self._baseline_measurement = baseline.measurement
        self._points = PointMaker(baseline.measurement, limits)

    def links(self, recipe: Recipe, costs: Sequence[float]) -> tuple[Link, ...]:
        """Names the models that a recipe makes; its last step is made at all of the costs.

        A step that says its own cost is made at that alone, and so is one that cannot aim.
        """
        links: list[Link] = []
        parent = self._baseline
        for place, step in enumerate(recipe):
            wanted = costs if place == len(recipe) - 1 else ()
            rungs = tuple((cost, self._key(parent, step, cost)) for cost in _costs(step, wanted))
            links.append(Link(parent, tuple(recipe[:place]), step, rungs))
            parent = rungs[0][1]
        return tuple(links)

    def missing(self, rungs: Rungs) -> Rungs:
        """Gives the rungs that were not measured yet by anyone."""
        return tuple(rung for rung in rungs if self._measured(rung[1]) is None)

    def statistics_key(self, link: Link) -> str | None:
        """Names the statistics that a step starts from; None if its strategy needs none."""
        if not registry.get(link.step.strategy).statistics_choices:
            return None
        return statistics_key(link.parent, self._data, link.choices)

    def statistics_job(self, link: Link, key: str) -> StatisticsJob:
        """Gives the job that makes statistics."""
        step = link.choices
        return StatisticsJob(self._place, link.parent, key, step.strategy, step.choices)

    def ladder_job(self, link: Link, rungs: Rungs) -> LadderJob:
        """Gives the job that makes and measures models."""
        key, step = self.statistics_key(link), link.choices
        return LadderJob(self._place, link.parent, key, step.strategy, step.choices, rungs)

    def statistics_row(self, link: Link, key: str, made: StatisticsResult) -> NewArtifact:
        """Gives the row of statistics that were just made."""
        strategy = link.step.strategy
        return new_artifact(
            key, "statistics", link.parent, [], strategy, made.stored, None, "", made.seconds
        )

    def model_row(self, link: Link, made: RungResult) -> NewArtifact:
        """Gives the row of a model that was just made."""
        return new_artifact(
            made.key,
            "model",
            link.parent,
            to_plain([*link.before, Step.of(link.step.strategy, made.choices)]),
            link.step.strategy,
            made.stored,
            made.measurement,
            self._measurement,
            made.seconds,
            made.notes,
        )

    def points(self, links: Sequence[Link], results: Sequence[RungResult]) -> list[NewPoint]:
        """Gives the points of a recipe: of all models on its way, made now or before, all knobs.

        What was measured only on the way is a point like any other; a prefix whose measurement is
        gone or was another is passed over.
        """
        made = {result.key: result.measurement for result in results}
        return [
            point
            for link in links
            for cost, key in link.rungs
            for point in self._points_of(link, cost, key, made.get(key))
        ]

    def _points_of(
        self, link: Link, cost: float, key: str, made: Measurement | None
    ) -> list[NewPoint]:
        measured = made or self._measured(key)
        if measured is None:
            return []
        recipe = to_plain([*link.before, _with_cost(link.step, cost)])
        parent = self._of_parent(link.parent)
        found = self._points.points(key, recipe, measured)
        # A model that is like its parent at every setting has one point all the same.
        return [p for p in found if (p.metric, p.flops) not in parent] or found[:1]

    def _of_parent(self, key: str) -> set[tuple[float, float]]:
        """Gives metric and FLOPs at all settings of a model, by which a child may tie with it.

        Exits that nobody leaves at, and rules that keep everything, would put every such child
        beside its parent on the frontier, with its weights.
        """
        known = self._baseline_measurement if key == self._baseline else self._measured(key)
        if known is None:
            return set()
        settings = {(setting["metric"], setting["flops"]) for setting in known.settings}
        return {(known.metric, known.flops), *settings}

    def _key(self, parent: str, step: Step, cost: float) -> str:
        return model_key(parent, self._data, step.strategy, _with_cost(step, cost).choices_dict)

    def _measured(self, key: str) -> Measurement | None:
        row = self._store.artifact(key)
        return None if row is None else stored_measurement(row, self._measurement)


def costs_in_words(link: Link, rungs: Rungs) -> str:
    """Says what a ladder job makes."""
    name = link.step.strategy
    return f"{name} at {len(rungs)} costs" if len(rungs) > 1 else name


def without_constraint(step: Step) -> Step:
    """Gives a step as its strategy is told it: the cost comes apart from the choices."""
    choices = {name: value for name, value in step.choices if name != CONSTRAINT}
    return Step.of(step.strategy, choices)


def _costs(step: Step, wanted: Sequence[float]) -> Sequence[float]:
    if not registry.get(step.strategy).aims:
        return (AS_IT_COMES,)
    own = step.choices_dict.get(CONSTRAINT)
    return wanted if own is None else (float(own),)


def _with_cost(step: Step, cost: float) -> Step:
    return step.with_choices(constraint=cost) if registry.get(step.strategy).aims else step
