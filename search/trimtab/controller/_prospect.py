"""What a study may try and begins with: the same for a run and for a plan of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from trimtab.controller._reach import (
    Combination,
    Reach,
    is_over,
    least_ratios,
    out_of_reach,
    say_left_out,
)
from trimtab.controller._sampler import NOTHING, Known
from trimtab.controller._space import RecipeSpace
from trimtab.controller._warm_start import Subject, other_studies, warm_start
from trimtab.selection import Limits
from trimtab.spec import Spec
from trimtab_storage import Reader
from trimtab_strategies.recipe import Recipe
from trimtab_workers.jobs import Survey


@dataclass(frozen=True)
class Prospect:
    """The recipes there are, and what is known of them.

    ``least`` is what each combination of strategies costs at least, and ``budget`` the budget if
    there is one, as shares of the baseline's FLOPs; ``reach`` tells the former of single recipes.
    ``left_out`` says which combinations cannot meet the budget, ``taken_over`` what other studies
    know; None if there is nothing to say.
    """

    space: RecipeSpace
    reach: Reach
    budget: float | None
    least: Mapping[Combination, float]
    left_out: str | None
    known: Known = NOTHING
    taken_over: str | None = None

    def is_too_dear(self, recipe: Recipe) -> bool:
        """Tells whether a recipe is over the budget at its least, while others need not be.

        Where all are, none is too dear: the closest point is better than no answer.
        """
        if all(is_over(ratio, self.budget) for ratio in self.least.values()):
            return False
        return is_over(self.reach.least_of(recipe), self.budget)


def prospect_of(
    spec: Spec, survey: Survey, baseline: str, limits: Limits, budget: float | None, reader: Reader
) -> Prospect:
    """Works out what a study of a spec has before it.

    Args:
        spec: the study's.
        survey: what was found in its model and data.
        baseline: the key of its dense model.
        limits: the spec's, as numbers.
        budget: the budget on FLOPs as a share of the baseline's, if there is one.
        reader: the database, for what other studies know.
    """
    alone = prospect_alone(spec, survey, budget)
    sources = other_studies(reader, spec.name, subject_of(spec, survey, baseline))
    start = warm_start(sources, alone.space, limits, budget, spec.search.trials)
    return replace(alone, known=start.known, taken_over=start.said)


def subject_of(spec: Spec, survey: Survey, baseline: str) -> Subject:
    """Gives what a study's results compare by."""
    return Subject(survey.model_fingerprint, survey.data_fingerprint, spec.task.metric, baseline)


def prospect_alone(spec: Spec, survey: Survey, budget: float | None) -> Prospect:
    """Works out the same for a study that has a database to itself."""
    pins = {entry.name: entry.pins for entry in spec.search.strategies}
    reach = Reach(survey.shape, survey.histogram)
    least = least_ratios(pins, reach)
    timed = spec.budget.latency is not None
    space = RecipeSpace(pins, survey.n_train, out_of_reach(least, budget), timed=timed)
    return Prospect(space, reach, budget, least, say_left_out(least, budget))
