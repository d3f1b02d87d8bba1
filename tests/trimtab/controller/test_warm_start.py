"""What a study takes over from others, decided by hand and in runs."""

from __future__ import annotations

import shutil
from itertools import count
from typing import Any

import pytest

from trimtab.controller._ladder import ladder
from trimtab.controller._space import RecipeSpace
from trimtab.controller._warm_start import Source, warm_start
from trimtab.selection import Limits
from trimtab_storage import PointRow
from trimtab_strategies.recipe import Recipe, Step, from_plain, to_plain
from trimtab_workers.jobs import LadderJob, StatisticsJob, SurveyJob

SPACE = RecipeSpace({"fisher": {"tuning": ("none",)}}, 5000)
LIMITS = Limits(max_drop=0.05, max_flops_ratio=0.5)
IDS = count(1)


def recipe_of(head_weight: float) -> Recipe:
    """One of the space, known by a single number."""
    choices = SPACE.anchors()[0][0].choices_dict
    return (Step.of("fisher", {**choices, "head_weight": head_weight}),)


def point(head_weight: float, cost: float, drop: float, **changes: Any) -> PointRow:
    """A point on the frontier, as it is stored: with the cost that it was made at."""
    (step,) = recipe_of(head_weight)
    facts: dict[str, Any] = {
        "id": next(IDS),
        "study_id": 1,
        "trial_id": 1,
        "artifact_key": f"{head_weight} at {cost}",
        "recipe": to_plain([step.with_choices(constraint=cost)]),
        "knobs": {},
        "split": "search",
        "n": 100,
        "metric": 0.9 - drop,
        "drop": drop,
        "flops": 1e6 * cost,
        "flops_ratio": cost,
        "params": 1,
        "latency": None,
        "feasible": False,
        "on_flops_frontier": True,
        "on_latency_frontier": False,
        "created_at": "then",
    }
    return PointRow(**{**facts, **changes})


def begun(*points: PointRow, trials: int = 6, limits: Limits = LIMITS, **more: Any) -> Any:
    sources = [Source("reviews", points, True), *more.pop("others", [])]
    return warm_start(sources, SPACE, limits, 0.5, trials)


def weights(recipes: Any) -> list[float]:
    return [recipe[0].choices_dict["head_weight"] for recipe in recipes]


MEASURED = (
    point(0.5, 0.5, 0.04),
    point(1.5, 0.5, 0.02),
    point(2.0, 0.7, 0.0),
    point(2.0, 0.45, 0.3),
    point(2.5, 0.5, 0.09),
    point(3.0, 0.5, 0.01, on_flops_frontier=False),
)


def test_recipes_of_the_frontier_are_tried_first_the_best_for_these_limits_first() -> None:
    start = begun(*MEASURED, trials=12)
    assert weights(start.known.first) == [1.5, 0.5, 2.0, 2.5]
    cheaper = Limits(max_drop=0.1, max_flops_ratio=0.3)
    assert weights(begun(*MEASURED, trials=12, limits=cheaper).known.first)[:2] == [1.5, 0.5]
    dearer = Limits(max_drop=0.05, max_flops_ratio=0.8)
    assert weights(begun(*MEASURED, trials=12, limits=dearer).known.first)[:2] == [2.0, 1.5]


@pytest.mark.parametrize(("trials", "most"), [(1, 1), (3, 1), (4, 2), (9, 3), (12, 4), (300, 4)])
def test_a_third_of_the_trials_may_repeat_what_others_tried(trials: int, most: int) -> None:
    known = begun(*MEASURED, trials=trials).known
    assert weights(known.first) == [1.5, 0.5, 2.0, 2.5][:most]
    assert len(known.told) == 5 - most, "the others are known, but not tried"


def test_other_recipes_are_told_with_their_scores_the_best_last() -> None:
    told = begun(*MEASURED, trials=3).known.told
    assert weights(one.recipe for one in told) == [2.5, 2.0, 0.5, 3.0]
    bad, dear, *_, good = told
    assert (good.scores.drop, good.on_frontier) == (0.01, False)
    assert bad.scores.violation > 0 and bad.on_frontier and not bad.is_running
    assert dear.scores.violation == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("cost", "is_told"), [(0.51, False), (0.5, True), (0.38, True), (0.37, False)]
)
def test_what_was_made_for_quite_another_budget_may_be_tried_again(
    cost: float, is_told: bool
) -> None:
    """Its scores say little of the costs that it would be made at now."""
    elsewhere = point(3.0, cost, 0.2, on_flops_frontier=False)
    start = begun(point(1.5, 0.5, 0.02), elsewhere)
    assert weights(one.recipe for one in start.known.told) == ([3.0] if is_told else [])
    assert (
        start.said == f"1 recipe and {1 + is_told} measured point{'s' * is_told} of study 'reviews'"
    )


def test_what_cannot_aim_is_known_at_every_budget() -> None:
    space = RecipeSpace({"acc": {}}, 5000)
    (recipe,) = space.anchors()
    points = [point(1.0, 0.9, 0.2, recipe=to_plain(recipe), on_flops_frontier=False)]
    start = warm_start([Source("reviews", points, True)], space, LIMITS, 0.5, 6)
    assert [one.recipe for one in start.known.told] == [recipe]


def test_what_counted_in_time_did_so_at_other_prices() -> None:
    space = RecipeSpace({"fisher": {}}, 5000, timed=True)
    by_flops, by_time = (to_plain(recipe) for recipe in space.anchors())
    by_time[0]["choices"]["prices"] = "0.1/0.1/1 0.1/0.1/1 0.1/0.1/1 0.1/0.1/1 16"
    points = [
        point(1.0, 0.45, 0.02, recipe=recipe, on_flops_frontier=on_frontier)
        for recipe, on_frontier in ((by_flops, False), (by_time, False))
    ]
    start = warm_start([Source("reviews", points, True)], space, LIMITS, None, 6)
    assert [one.recipe for one in start.known.told] == [space.anchors()[0]]
    points[1] = point(1.0, 0.45, 0.02, recipe=by_time)
    start = warm_start([Source("reviews", points, True)], space, LIMITS, None, 6)
    assert start.known.first == (space.anchors()[1],), "a recipe to begin with all the same"


def test_all_costs_of_a_recipe_count_and_each_of_them_once() -> None:
    ladder_of_one = [point(1.5, 0.6, 0.01), point(1.5, 0.4, 0.03)]
    again = [point(1.5, 0.4, 0.03, study_id=2), point(1.5, 0.3, 0.2, study_id=2)]
    start = begun(*ladder_of_one, trials=3, others=[Source("again", again, True)])
    assert weights(start.known.first) == [1.5]
    assert start.said == "1 recipe and 3 measured points of study 'reviews'"


def test_recipes_that_this_study_may_not_try_are_passed_over() -> None:
    pinned = point(1.5, 0.5, 0.02)
    pinned.recipe[0]["choices"]["tuning"] = "scale"
    gone = point(1.5, 0.5, 0.02, recipe=[{"strategy": "int8", "choices": {}}])
    dense = point(1.0, 1.0, 0.0, recipe=[])
    start = begun(pinned, gone, dense)
    assert start.known.first == start.known.told == () and start.said is None


def test_on_other_data_the_frontier_is_only_a_suggestion() -> None:
    other = Source("news", [point(w, 0.5, 0.03, study_id=2) for w in (0.5, 4.0)], False)
    start = begun(MEASURED[1], MEASURED[-1], trials=6, others=[other])
    assert weights(start.known.first) == [1.5]
    assert weights(start.known.later) in ([0.5], [4.0]), "a third in all"
    assert weights(one.recipe for one in start.known.told) == [3.0]
    assert start.said == (
        "1 recipe and 2 measured points of study 'reviews'; "
        "1 recipe to try, of study 'news' on other data"
    )
    measured = begun(point(0.5, 0.5, 0.2), trials=9, others=[other]).known
    assert weights(measured.later) == [4.0], "what is known on this data needs no suggestion"


def test_it_says_whose_results_they_are() -> None:
    sources = [
        Source(f"s{number}", [point(float(number), 0.5, 0.01, study_id=number)], True)
        for number in range(1, 6)
    ]
    assert warm_start(sources[:2], SPACE, LIMITS, 0.5, 3).said == (
        "1 recipe and 2 measured points of studies 's1' and 's2'"
    )
    assert warm_start(sources, SPACE, LIMITS, 0.5, 3).said == (
        "1 recipe and 5 measured points of 5 studies"
    )
    assert warm_start([], SPACE, LIMITS, 0.5, 3).said is None


# In runs


def taken_over(bench: Any) -> list[str]:
    return [note for note in bench.reporter.notes if note.startswith("took over")]


def best_of_frontier(bench: Any, name: str = "reviews") -> set[Any]:
    frontier = bench.store.frontier(bench.study(name).id)
    return {point.trial_id for point in frontier if point.recipe}


def test_second_study_begins_with_the_frontier_of_the_first(bench: Any, fake: Any) -> None:
    """What both measure at the same costs takes no job; the rest is new."""
    bench.run(fake(), bench.spec(search__trials=9))
    assert taken_over(bench) == []
    executor = fake()
    again = bench.spec(name="again", search__trials=9, max_drop="3 pt")
    bench.run(executor, again)
    frontier = [t.recipe for t in bench.trials() if t.id in best_of_frontier(bench)]
    n_known = min(3, len(frontier))
    first, rest = bench.recipes("again")[:n_known], bench.recipes("again")[n_known:]
    assert first and all(recipe in frontier for recipe in first)
    assert not [recipe for recipe in rest if recipe in bench.recipes()]
    known = bench.trials("again")[:n_known]
    assert [trial.reused for trial in known] == [len(ladder(0.5))] * n_known
    assert [trial.result["made"] for trial in known] == [0] * n_known
    assert executor.count(LadderJob) == 9 - n_known
    n_points = 9 * len(ladder(0.5))
    (said,) = taken_over(bench)
    assert said.startswith(f"took over {n_known} recipe")
    assert said.endswith(f" and {n_points} measured points of study 'reviews'")
    assert bench.problems("again") == []


def test_what_was_measured_needs_no_weights(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=6))
    for row in bench.store.kept_artifacts():
        if row.kind != "baseline":
            bench.store.forget_file(row.key)
            shutil.rmtree(bench.store.artifact_root / row.path)
    executor = fake()
    bench.run(executor, bench.spec(name="again", search__trials=1))
    assert {type(job) for job in executor.sent} == {SurveyJob}
    assert bench.states("again") == ["complete"]


def test_second_study_is_no_worse_after_its_first_trials(bench: Any, fake: Any) -> None:
    """It has what the first one found for the same limits."""
    best = bench.run(fake(), bench.spec(search__trials=12)).choice.point
    again = bench.run(fake(), bench.spec(name="again", search__trials=3)).choice.point
    assert (again.artifact_key, again.drop) == (best.artifact_key, best.drop)


def test_study_on_other_data_is_asked_for_recipes_only(
    bench: Any, fake: Any, make_survey: Any
) -> None:
    bench.run(fake(), bench.spec(search__trials=8))
    other = make_survey(data_fingerprint="data-2")
    executor = fake(lambda job, nth: other if isinstance(job, SurveyJob) else None)
    bench.run(executor, bench.spec(name="news", search__trials=8))
    anchor, second, *_ = [from_plain(recipe) for recipe in bench.recipes("news")]
    frontier = [t.recipe for t in bench.trials() if t.id in best_of_frontier(bench)]
    assert anchor == RecipeSpace({"fisher": {}}, 5000).anchors()[0]
    assert to_plain(second) in frontier
    assert executor.count(StatisticsJob) > 0 and executor.count(LadderJob) == 8
    (said,) = taken_over(bench)
    assert said.endswith("to try, of study 'reviews' on other data") and "measured" not in said


@pytest.mark.parametrize("change", ["model_fingerprint", "metric"])
def test_results_that_do_not_compare_are_not_taken_over(
    bench: Any, fake: Any, make_survey: Any, change: str
) -> None:
    bench.run(fake())
    changes = {change: "other"} if change != "metric" else {}
    other = make_survey(**changes)
    spec = bench.spec(name="other", **({"task__metric": "f1"} if change == "metric" else {}))
    bench.run(fake(lambda job, nth: other if isinstance(job, SurveyJob) else None), spec)
    assert not any("measured points" in note for note in taken_over(bench))


def test_study_that_goes_on_takes_the_same_over(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=6))
    for trials in (4, 8, 8):
        bench.run(fake(), bench.spec(name="again", search__trials=trials))
    first, second = taken_over(bench), bench.recipes("again")
    assert len(first) == 2, "nothing is said where all trials were had"
    assert len({str(recipe) for recipe in second}) == 8


def test_parallel_workers_take_over_the_same(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=9))
    bench.run(fake(slots=3), bench.spec(name="again", search__trials=9))
    assert bench.states("again") == ["complete"] * 9
    reused = [trial.result["made"] == 0 for trial in bench.trials("again")]
    assert sum(reused) == min(3, len(best_of_frontier(bench)))
    assert bench.problems("again") == []
