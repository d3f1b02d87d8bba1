from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from trimtab.controller import _quick_tpe, _sampler
from trimtab.controller._sampler import (
    MOST_TOLD,
    N_STARTUP_TRIALS,
    Known,
    Told,
    most_telling,
    planned,
    propose,
)
from trimtab.controller._space import RecipeSpace
from trimtab.selection import RecipeScores
from trimtab_strategies.recipe import Recipe

SPACE = RecipeSpace({"fisher": {}}, 5000)
SMALL = RecipeSpace(
    {
        "fisher": {
            "calibration": (256, 512),
            "importance": ("predictions",),
            "head_weight": (1.0,),
            "tuning": ("none",),
        }
    },
    5000,
)


def scores_of(recipe: Recipe, best_damping: float = 10.0) -> RecipeScores:
    """One number decides all: how far the damping is from the best."""
    from math import log10

    choices = recipe[0].choices_dict
    far = abs(log10(choices["damping"] / best_damping)) if "damping" in choices else 4.0
    return RecipeScores(0.3 + 0.1 * far, 0.01 * far, far - 1)


def searched(
    seed: int, n: int, score: Callable[[Recipe], RecipeScores | None], space: RecipeSpace = SPACE
) -> list[Recipe]:
    """The recipes of a search with one worker."""
    history: list[Told] = []
    for number in range(n):
        recipe = propose(space, history, seed=seed, number=number)
        assert recipe is not None
        history.append(Told(recipe, score(recipe)))
    return [told.recipe for told in history]


def test_recommended_recipes_come_first() -> None:
    assert propose(SPACE, [], seed=3, number=0) == SPACE.anchors()[0]
    (anchor,) = SPACE.anchors()
    second = propose(SPACE, [Told(anchor, None, is_running=True)], seed=3, number=1)
    assert second is not None and second != anchor


def test_recommended_recipe_is_not_skipped_when_something_else_came_before() -> None:
    other = propose(SPACE, [Told(SPACE.anchors()[0], None)], seed=0, number=1)
    assert other is not None
    assert propose(SPACE, [Told(other, None)], seed=0, number=1) == SPACE.anchors()[0]


@pytest.mark.parametrize("scored", [True, False])
def test_nothing_is_proposed_twice(scored: bool) -> None:
    recipes = searched(5, 25, lambda recipe: scores_of(recipe) if scored else None)
    assert len(set(recipes)) == 25


def test_small_space_is_used_up_and_then_said_to_be() -> None:
    found = searched(0, 4, lambda recipe: None, SMALL)
    assert {tuple(step.choices_dict.values()) for (step,) in found} == {
        (calibration, "flops", 1.0, "predictions", rearrange, "none")
        for calibration in (256, 512)
        for rearrange in (True, False)
    }
    history = [Told(recipe, scores_of(recipe)) for recipe in found]
    assert propose(SMALL, history, seed=0, number=4) is None


def test_proposal_depends_on_seed_number_and_what_was_measured() -> None:
    recipes = searched(1, 20, scores_of)
    history = [Told(recipe, scores_of(recipe)) for recipe in recipes]
    first = propose(SPACE, history, seed=1, number=20)
    assert propose(SPACE, list(history), seed=1, number=20) == first
    assert propose(SPACE, history, seed=2, number=20) != first
    assert propose(SPACE, history, seed=1, number=21) != first
    other = [Told(recipe, scores_of(recipe, best_damping=0.02)) for recipe in recipes]
    numbers = range(20, 30)
    assert [propose(SPACE, other, seed=1, number=number) for number in numbers] != [
        propose(SPACE, history, seed=1, number=number) for number in numbers
    ]


def test_proposals_leave_the_state_of_others_alone() -> None:
    random.seed(4)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    before, filters = random.getstate(), list(warnings.filters)
    searched(1, 9, scores_of)
    assert random.getstate() == before
    assert list(warnings.filters) == filters


class Spy(_quick_tpe._Once):
    """Keeps what the sampler is shown."""

    seen: list[Any]

    def sample_relative(self, study: Any, trial: Any, space: Any) -> Any:
        type(self).seen = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        return super().sample_relative(study, trial, space)


def test_sampler_is_told_the_truth_about_every_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.controller._quick_tpe._Once", Spy)
    good, bad, failed, running = searched(1, 4, scores_of)
    history = [
        Told(good, RecipeScores(0.3, 0.01, -0.2)),
        Told(bad, RecipeScores(0.5, 0.09, 0.7)),
        Told(failed, None),
        Told(running, None, is_running=True),
    ]
    propose(SPACE, history, seed=1, number=4)
    states = [trial.state.name for trial in Spy.seen[:4]]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING"]
    assert [trial.values for trial in Spy.seen[:2]] == [[0.3, 0.01], [0.5, 0.09]]
    for trial, recipe in zip(Spy.seen, (good, bad, failed, running), strict=False):
        assert set(trial.params.values()) == set(recipe[0].choices_dict.values())
    constraints = [next(iter(trial.constraints.values())) for trial in Spy.seen[:2]]
    assert constraints == [-0.2, 0.7]


def test_sampler_is_told_of_the_frontier_and_the_newest_trials() -> None:
    recipes = searched(1, 9, scores_of)
    history = [
        Told(recipe, None, on_frontier=place in (1, 4, 8)) for place, recipe in enumerate(recipes)
    ]
    for most, expected in [(9, range(9)), (5, [1, 4, 6, 7, 8]), (2, [4, 8])]:
        assert most_telling(history, most) == [history[place] for place in expected]
    assert MOST_TOLD == 1000


def test_sampler_is_told_of_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.controller._quick_tpe._Once", Spy)
    monkeypatch.setattr("trimtab.controller._sampler.MOST_TOLD", 3)
    recipes = searched(1, 8, scores_of)
    history = [Told(recipe, scores_of(recipe)) for recipe in recipes]
    history[2] = Told(recipes[2], RecipeScores(0.3, 0.01, -0.2), on_frontier=True)
    proposed = propose(SPACE, history, seed=1, number=8)
    told = [set(trial.params.values()) for trial in Spy.seen]
    assert told == [set(recipes[place][0].choices_dict.values()) for place in (2, 6, 7)]
    assert proposed not in recipes, "what it is not told of is not tried again either"


# What is done once only

MANY = RecipeSpace({"fisher": {}, "acc": {}, "early_exit": {}}, 5000)
DRAWN = ("cost alone", "a curve", "half over the limits")


def drawn_history(kind: str, n: int) -> list[Told]:
    """A history with all that there can be, from which nothing was proposed."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=n))
    recipes = list(dict.fromkeys(MANY.draw(study.ask()) for _ in range(n)))
    rng, told = random.Random(n), []
    for recipe in [*MANY.anchors(), *recipes]:
        cost = rng.uniform(0.2, 0.9)
        drop = {"cost alone": 0.0, "a curve": 0.05 * (1 - cost) ** 2}.get(kind, rng.random())
        violation = rng.uniform(-0.5, 0.5) if kind == DRAWN[2] else -0.1
        told.append(Told(recipe, RecipeScores(cost, drop, violation)))
    told[3], told[-1] = Told(told[3].recipe, None), Told(told[-1].recipe, None, is_running=True)
    return told


def told_by_hand(trials: Any, sampler: Any) -> optuna.Study:
    """What Optuna's documentation says to do."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for trial in trials:
        shown = {"params": trial.params, "distributions": trial.distributions}
        scores = {"values": trial.values, "constraints": trial.constraints}
        more = scores if trial.values else {"state": trial.state}
        study.add_trial(optuna.trial.create_trial(**shown, **more))
    return study


def as_it_comes(patch: pytest.MonkeyPatch) -> None:
    """Lets proposals be made by Optuna's own classes."""
    patch.setattr(_sampler, "study_of", told_by_hand)
    patch.setattr(_quick_tpe, "KNOWN", "4.")


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("n", [4, 40, 150])
def test_proposals_are_those_of_optuna_as_it_comes(
    kind: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = drawn_history(kind, n)
    numbers = range(n, n + 4)
    quick = [propose(MANY, history, seed=2, number=number) for number in numbers]
    as_it_comes(monkeypatch)
    assert [propose(MANY, history, seed=2, number=number) for number in numbers] == quick


def test_all_attempts_are_those_of_optuna_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    history = [
        Told(recipe, RecipeScores(0.3 + 0.01 * place, 0.1 - 0.01 * place**0.5, place % 3 - 1.0))
        for place, recipe in enumerate(3 * searched(0, 4, lambda recipe: None, SMALL))
    ]
    drawn: list[Recipe] = []
    draw = SMALL.draw

    def noted(trial: optuna.Trial, *aim: Any) -> Recipe:
        drawn.append(draw(trial, *aim))
        return drawn[-1]

    modelled: list[str] = []
    model = _quick_tpe._Once._build_parzen_estimator

    def counted(self: Any, study: Any, space: Any, *arguments: Any, **named: Any) -> Any:
        modelled.extend(space)
        return model(self, study, space, *arguments, **named)

    monkeypatch.setattr(SMALL, "draw", noted)
    monkeypatch.setattr(_quick_tpe._Once, "_build_parzen_estimator", counted)
    assert propose(SMALL, history, seed=1, number=12) is None
    assert len(modelled) == 2 * len(set(modelled)) > 0, "the good and the others, once each"
    quick, drawn = drawn, []
    as_it_comes(monkeypatch)
    assert propose(SMALL, history, seed=1, number=12) is None
    assert len(quick) == _sampler.TPE_ATTEMPTS + _sampler.RANDOM_ATTEMPTS
    assert drawn == quick


def test_proposal_does_not_depend_on_what_was_proposed_before() -> None:
    history = drawn_history(DRAWN[2], 30)
    first = [propose(MANY, history[:end], seed=3, number=end) for end in range(20, 40)]
    _sampler._trial.cache_clear()
    again = [propose(MANY, history[:end], seed=3, number=end) for end in reversed(range(20, 40))]
    assert list(reversed(again)) == first


def test_trials_are_made_and_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from optuna.samplers._tpe import sampler as optunas

    made, sortings = [], []
    create, split = _sampler.create_trial, optunas._split_trials
    monkeypatch.setattr(_sampler, "create_trial", lambda **n: made.append(n) or create(**n))
    monkeypatch.setattr(optunas, "_split_trials", lambda *a: sortings.append(a) or split(*a))
    history = drawn_history(DRAWN[1], 30)
    _sampler._trial.cache_clear()
    for number in (38, 39):
        assert propose(MANY, history, seed=3, number=number) is not None
        assert len(made) == len(history)
        assert len(sortings) == number - 37
    told = Told(history[-1].recipe, RecipeScores(0.4, 0.0, -0.1))
    propose(MANY, [*history[:-1], told], seed=3, number=40)
    assert len(made) == len(history) + 1, "one that ran has ended"


@pytest.mark.slow
def test_proposal_takes_no_longer_after_five_thousand_trials_than_after_one() -> None:
    long = drawn_history(DRAWN[1], 5000)
    assert len(long) > 4 * _sampler.MOST_TOLD
    short = [*long[: len(MANY.anchors())], *long[-_sampler.MOST_TOLD :]]
    took: dict[int, list[float]] = {len(short): [], len(long): []}
    for number in range(10):
        for history in (short, long):
            began = time.process_time()
            assert propose(MANY, history, seed=2, number=len(long) + number) is not None
            took[len(history)].append(time.process_time() - began)
    of_short, of_long = map(min, took.values())
    # Of each it is seen whether it is what is proposed; to tell of it takes many times as long.
    assert of_long - of_short < 20e-6 * (len(long) - len(short)) and of_long < 1, took


def test_what_is_told_is_not_changed_by_a_study_that_was_told() -> None:
    history = drawn_history(DRAWN[0], 9)
    made = [_sampler._trial(MANY, t.recipe, t.scores, t.is_running) for t in history]
    told = [trial for trial in made if trial is not None]
    before = [repr(trial) for trial in told]
    study = _quick_tpe.study_of(told, optuna.samplers.RandomSampler(seed=0))
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    assert [trial.number for trial in study.trials] == list(range(len(told) + 1))
    assert [repr(trial) for trial in told] == before


def test_versions_of_optuna_that_are_not_known_are_used_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert type(_quick_tpe.estimator(0, 6)) is _quick_tpe._Once
    monkeypatch.setattr("optuna.__version__", "5.1.0")
    assert type(_quick_tpe.estimator(0, 6)) is optuna.samplers.TPESampler


# What is known from elsewhere


def drawn_recipes(n: int) -> list[Recipe]:
    """Some that are not recommended."""
    return searched(7, n + 1, scores_of)[1:]


def test_what_is_known_to_be_good_comes_first_and_then_the_recommended() -> None:
    good, better, other, bad = drawn_recipes(4)
    known = Known((better, good), (other,), (Told(bad, scores_of(bad)),))
    history: list[Told] = []
    for expected in (better, good, SPACE.anchors()[0], other):
        assert propose(SPACE, history, seed=0, number=len(history), known=known) == expected
        history.append(Told(expected, None))
    fifth = propose(SPACE, history, seed=0, number=4, known=known)
    assert fifth not in (better, good, SPACE.anchors()[0], other, bad)


def test_recommended_recipe_whose_scores_are_known_is_not_tried_again() -> None:
    (anchor,) = SPACE.anchors()
    known = Known(told=(Told(anchor, scores_of(anchor)),))
    assert planned(SPACE, known) == []
    assert propose(SPACE, [], seed=0, number=0, known=known) not in (None, anchor)
    assert planned(SPACE, Known(first=(anchor,))) == [anchor]


def test_known_recipes_are_proposed_again_only_when_nothing_else_is_left() -> None:
    worst, *others, best = searched(0, 4, lambda recipe: None, SMALL)
    known = Known(told=(Told(worst, scores_of(worst)), Told(best, scores_of(best))))
    history: list[Told] = []
    for number in range(4):
        recipe = propose(SMALL, history, seed=0, number=number, known=known)
        assert recipe is not None
        history.append(Told(recipe, None))
    assert {told.recipe for told in history[:2]} == set(others)
    assert [told.recipe for told in history[2:]] == [best, worst]
    assert propose(SMALL, history, seed=0, number=4, known=known) is None


def test_what_is_known_draws_the_search_from_the_first_trial_on() -> None:
    """Beside an anchor that was tried, twenty known recipes say where to look."""
    (anchor,) = SPACE.anchors()
    tried = [Told(anchor, scores_of(anchor))]
    told = tuple(Told(recipe, scores_of(recipe)) for recipe in searched(3, 20, scores_of)[1:])

    def near(known: Known) -> int:
        found = [propose(SPACE, tried, seed=s, number=1, known=known) for s in range(30)]
        return sum(recipe is not None and scores_of(recipe).violation <= 0 for recipe in found)

    assert near(Known(told=told)) > 1.5 * near(Known())


def test_own_results_count_and_not_those_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.controller._quick_tpe._Once", Spy)
    (recipe,) = drawn_recipes(1)
    (anchor,) = SPACE.anchors()
    elsewhere, own = RecipeScores(0.3, 0.01, -0.2), RecipeScores(0.4, 0.02, 0.1)
    history = [Told(recipe, own), Told(anchor, scores_of(anchor))]
    propose(SPACE, history, seed=1, number=2, known=Known(told=(Told(recipe, elsewhere),)))
    assert [trial.values for trial in Spy.seen[:1]] == [[0.4, 0.02]] and len(Spy.seen) == 2


def test_recipes_that_meet_the_limits_draw_the_search_towards_them() -> None:
    """Cost and drop say nothing here, so that only the constraint can."""

    def feasible_near_ten(recipe: Recipe) -> RecipeScores:
        return RecipeScores(0.5, 0.05, scores_of(recipe).violation)

    def nothing(recipe: Recipe) -> RecipeScores:
        return RecipeScores(0.5, 0.05, 0.0)

    def hits(score: Callable[[Recipe], RecipeScores]) -> int:
        late = [r for seed in range(6) for r in searched(seed, 24, score)[N_STARTUP_TRIALS:]]
        return sum(scores_of(recipe).violation <= 0 for recipe in late)

    told, blind = hits(feasible_near_ten), hits(nothing)
    assert told > 1.2 * blind, f"{told} within the limits, {blind} when not told of them"


def test_search_beats_chance() -> None:
    def best(recipes: list[Recipe]) -> float:
        return min(scores_of(recipe).drop for recipe in recipes)

    def by_chance(seed: int) -> list[Recipe]:
        return searched(seed, 25, lambda recipe: None)

    ours = sum(best(searched(seed, 25, scores_of)) for seed in range(10))
    chance = sum(best(by_chance(seed)) for seed in range(10))
    assert ours < 0.8 * chance
