"""The steps of one recipe: how they are named, which are made already, and who makes the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

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
from trimtab_strategies.base import PRICES, Value, is_timed
from trimtab_strategies.recipe import Recipe, Step, to_plain
from trimtab_workers.jobs import (
    LadderJob,
    Look,
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
    but the last have one rung, which is the parent of the next. ``look`` is set where the model
    would be another with all of the training rows.
    """

    parent: str
    before: Recipe
    step: Step
    rungs: Rungs
    look: Look | None = None

    @property
    def choices(self) -> Step:
        """The step without the cost that it is made at."""
        return without_constraint(self.step)


class Steps:
    """Knows of every step whether it is made, makes jobs of the missing ones and rows of results.

    Reads the database and writes nothing. ``prices`` are those of heads and filters, for steps that
    count in time.
    """

    def __init__(
        self,
        store: Reader,
        place: Place,
        baseline: Baseline,
        limits: Limits,
        prices: str | None = None,
    ) -> None:
        self._store, self._place, self._baseline = store, place, baseline.key
        self._prices = prices
        self._data = baseline.survey.data_fingerprint
        self._baseline_measurement = baseline.measurement
        self._points = PointMaker(baseline.measurement, limits)

    def links(
        self, recipe: Recipe, costs: Sequence[float], look: Look | None = None
    ) -> tuple[Link, ...]:
        """Names the models that a recipe makes; its last step is made at all of the costs.

        A step that says its own cost is made at that alone, and so is one that cannot aim. With a
        ``look``, the first step that trains and all behind it are made with so many rows.
        """
        links: list[Link] = []
        parent, seen = self._baseline, None
        for place, step in enumerate(map(self._priced, recipe)):
            wanted = costs if place == len(recipe) - 1 else ()
            seen = look if trains(step) else seen
            rungs = tuple(
                (cost, self._key(parent, step, cost, seen)) for cost in _costs(step, wanted)
            )
            before = tuple(link.step for link in links)
            links.append(Link(parent, before, step, rungs, seen))
            parent = rungs[0][1]
        return tuple(links)

    def _priced(self, step: Step) -> Step:
        strategy = registry.get(step.strategy)
        if self._prices is None or not is_timed(strategy, step.choices_dict):
            return step
        return step.with_choices(**{PRICES: self._prices})

    def missing(self, link: Link) -> Rungs:
        """Gives the rungs of a link that were not measured yet by anyone."""
        return tuple(rung for rung in link.rungs if self.measured(link, rung[1]) is None)

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
        return LadderJob(
            self._place, link.parent, key, step.strategy, step.choices, rungs, link.look
        )

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
            self._name(link.look),
            made.seconds,
            made.notes if link.look is None else {**made.notes, "look": asdict(link.look)},
        )

    def points(self, links: Sequence[Link], results: Sequence[RungResult]) -> list[NewPoint]:
        """Gives the points of a recipe: of all models on its way, made now or before, all knobs.

        What was measured only on the way is a point like any other; a prefix whose measurement is
        gone or was another is passed over, and so is what was only looked at.
        """
        made = {result.key: result.measurement for result in results}
        return [
            point
            for link in links
            if link.look is None
            for cost, key in link.rungs
            for point in self._points_of(link, cost, key, made.get(key))
        ]

    def _points_of(
        self, link: Link, cost: float, key: str, made: Measurement | None
    ) -> list[NewPoint]:
        measured = made or self.measured(link, key)
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
        known = self._baseline_measurement if key == self._baseline else self._known(key, None)
        if known is None:
            return set()
        settings = {(setting["metric"], setting["flops"]) for setting in known.settings}
        return {(known.metric, known.flops), *settings}

    def measured(self, link: Link, key: str) -> Measurement | None:
        """Gives what was measured of one of a link's models; None if that was not done yet."""
        return self._known(key, link.look)

    def _key(self, parent: str, step: Step, cost: float, look: Look | None) -> str:
        choices = _with_cost(step, cost).choices_dict
        rows: dict[str, Value] = {} if look is None else {"share_of_rows": look.share}
        return model_key(parent, self._data, step.strategy, {**choices, **rows})

    def _known(self, key: str, look: Look | None) -> Measurement | None:
        row = self._store.artifact(key)
        return None if row is None else stored_measurement(row, self._name(look))

    def _name(self, look: Look | None) -> str:
        return look_name(self._place.task.metric, self._data, look)


def look_name(metric: str, data_fingerprint: str, look: Look | None) -> str:
    """Names what is measured on the search split, or by a look on some rows of it."""
    rows = "search" if look is None else f"{look.n_rows} rows of search"
    return measurement_name(metric, data_fingerprint, rows)


def trains(step: Step) -> bool:
    """Tells whether a step learns from the training rows, so that fewer of them cost less."""
    return registry.get(step.strategy).passes(without_constraint(step).choices_dict) > 0


def costs_in_words(link: Link, rungs: Rungs) -> str:
    """Says what a ladder job makes."""
    name = link.step.strategy
    if link.look is not None:
        return f"a look at {name} ({100 * link.look.share:.3g}% of the rows)"
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
