"""The warm start: what other studies of a database know already, for a study that begins.

Of studies on the same baseline (one model, data and metric) the best recipes are tried first, which
costs next to nothing, since what they made is shared, and the sampler is told how well the others
did. On other data a recipe of the same model may do otherwise, so that it is only worth a try.
All of it follows from the tables: the same ones give the same start, also after an interruption.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from trimtab.controller._history import by_recipe, is_on_frontier
from trimtab.controller._sampler import Known, Told
from trimtab.controller._space import RecipeSpace
from trimtab.selection import Limits, RecipeScores, recipe_scores
from trimtab_storage import PointRow, Reader, StudyRow
from trimtab_strategies import registry
from trimtab_strategies.base import is_timed
from trimtab_strategies.recipe import Recipe, Step, stable_key, to_plain

NEAR = 0.75
"""A model that costs at least this share of the budget, and is within it, says how a recipe does
there; what was made for a quite different budget does not."""

MOST_NAMED = 3
"""Studies that are called by name where it is said what was taken over."""


@dataclass(frozen=True)
class Subject:
    """What makes results comparable: the dense model, and the rows and metric it is judged by."""

    model: str
    data: str
    metric: str
    baseline: str


@dataclass(frozen=True)
class Source:
    """Another study on the same model, with what it measured; ``is_same`` as to data and metric."""

    name: str
    points: Sequence[PointRow]
    is_same: bool


@dataclass(frozen=True)
class WarmStart:
    """What a study takes over, and in words from where; None if there is nothing."""

    known: Known
    said: str | None


@dataclass(frozen=True)
class _Found:
    """One recipe that was measured elsewhere; ``study`` is where, the oldest one if several."""

    recipe: Recipe
    scores: RecipeScores
    costs: tuple[float, ...]
    on_frontier: bool
    study: str

    @property
    def rank(self) -> tuple[float, float, float, str]:
        """Sorts the best first: within the limits, the smaller drop, the lower cost."""
        over = max(0.0, self.scores.violation)
        key = stable_key(to_plain(self.recipe))
        return over, self.scores.drop, self.scores.cost_ratio, key

    def is_known_at(self, budget: float | None) -> bool:
        """Tells whether the scores are those that a trial would get that has this budget.

        A recipe that is made at a ladder of costs about the budget may not have been made there.
        """
        if budget is None or len(self.recipe) > 1 or not registry.get(self.recipe[0].strategy).aims:
            return True
        most = min(budget, 1.0)
        return any(NEAR * most <= cost <= most for cost in self.costs)


def other_studies(reader: Reader, own: str, subject: Subject) -> list[Source]:
    """Reads what the other studies on a model measured, the oldest study first."""
    return [
        Source(study.name, reader.points(study.id), is_same(study, subject))
        for study in reader.studies()
        if study.name != own and study.fingerprint.get("model") == subject.model
    ]


def is_same(study: StudyRow, subject: Subject) -> bool:
    """Tells whether a study's results compare with those on the subject."""
    theirs = (
        study.fingerprint.get("data"),
        study.spec.get("task", {}).get("metric"),
        (study.baseline or {}).get("artifact"),
    )
    return theirs == (subject.data, subject.metric, subject.baseline)


def warm_start(
    sources: Sequence[Source], space: RecipeSpace, limits: Limits, budget: float | None, trials: int
) -> WarmStart:
    """Decides what a study begins with.

    Args:
        sources: the other studies.
        space: the recipes that this study may try; others are passed over.
        limits: this study's, by which all is judged.
        budget: its budget on FLOPs as a share of the baseline's, which is another on other data.
        trials: how many it may have; a third of them, rounded up, may repeat what others tried.
    """
    most = -(-trials // 3)
    same = _found([source for source in sources if source.is_same], space, limits)
    first = [found for found in same if found.on_frontier][:most]
    begun = {found.recipe for found in first}
    told = [found for found in same if found.recipe not in begun and found.is_known_at(budget)]
    # What counted in time did so at other prices.
    told = [found for found in told if not any(map(_is_timed, found.recipe))]
    shares = replace(limits, max_flops=None, max_flops_ratio=budget)
    elsewhere = _found([source for source in sources if not source.is_same], space, shares)
    measured = {found.recipe for found in same}
    later = [f for f in elsewhere if f.on_frontier and f.recipe not in measured]
    later = later[: most - len(first)]
    known = Known(
        tuple(found.recipe for found in first),
        tuple(found.recipe for found in later),
        tuple(Told(f.recipe, f.scores, on_frontier=f.on_frontier) for f in reversed(told)),
    )
    return WarmStart(known, _said(first, told, later))


def _found(sources: Sequence[Source], space: RecipeSpace, limits: Limits) -> list[_Found]:
    """Sums up each recipe of the space that was measured, the best one first."""
    named = {point.study_id: source.name for source in sources for point in source.points}
    # Another study timed other requests, if any; its FLOPs and drops are what compares.
    by_cost = replace(limits, max_latency_ms=None, other_latencies_ms=())
    found = []
    for recipe, points in by_recipe([p for source in sources for p in source.points]).items():
        if space.parameters(recipe) is None:
            continue
        different = _different(points)
        scores, name = recipe_scores(different, by_cost), named[points[0].study_id]
        costs = tuple(point.flops_ratio for point in different)
        found.append(_Found(recipe, scores, costs, is_on_frontier(points), name))
    return sorted(found, key=lambda one: one.rank)


def _is_timed(step: Step) -> bool:
    return is_timed(registry.get(step.strategy), step.choices_dict)


def _different(points: Iterable[PointRow]) -> list[PointRow]:
    """Takes a model's setting once, however many studies have it; models are shared by them."""
    settings = {
        (point.artifact_key, json.dumps(point.knobs, sort_keys=True)): point for point in points
    }
    return list(settings.values())


def _said(first: Sequence[_Found], told: Sequence[_Found], later: Sequence[_Found]) -> str | None:
    parts = []
    if first or told:
        taken = [*first, *told]
        recipes = f"{_count(len(first), 'recipe')} and " if first else ""
        points = _count(sum(len(found.costs) for found in taken), "measured point")
        parts.append(f"{recipes}{points} of {_names(taken)}")
    if later:
        parts.append(f"{_count(len(later), 'recipe')} to try, of {_names(later)} on other data")
    return "; ".join(parts) or None


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _names(found: Sequence[_Found]) -> str:
    names = sorted({one.study for one in found})
    if len(names) > MOST_NAMED:
        return f"{len(names)} studies"
    word = "study" if len(names) == 1 else "studies"
    return f"{word} {' and '.join(repr(name) for name in names)}"
