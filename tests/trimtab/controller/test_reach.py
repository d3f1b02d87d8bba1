"""What recipes cost at least: never more than any of them does."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from trimtab.controller._reach import Reach, least_ratios, out_of_reach, say_left_out
from trimtab.controller._space import sound_combinations
from trimtab_strategies import registry
from trimtab_strategies.base import Value
from trimtab_strategies.cost import (
    EncoderShape,
    LengthHistogram,
    encoder_macs,
    encoder_macs_at,
    exit_macs,
    token_counts,
)
from trimtab_strategies.early_exit._strategy import exit_layers
from trimtab_strategies.recipe import Step
from trimtab_workers.jobs import LadderJob, SurveyJob

NAMES = registry.names()
MINILM = EncoderShape.dense(384, 6, 12, 1536)


def smaller(shape: EncoderShape, rng: random.Random) -> EncoderShape:
    """What is left when units go; often next to nothing."""
    share = rng.choice([0.0, rng.random()])
    return EncoderShape(
        shape.hidden_size,
        shape.head_dim,
        tuple(int(n * share * rng.random()) for n in shape.heads),
        tuple(int(n * share * rng.random()) for n in shape.filters),
    )


def cost_of(
    chosen: Any, shape: EncoderShape, length: int, rng: random.Random, positions: str = "all"
) -> int:
    """What one sample costs with some setting of everything that the strategies may do, in MACs."""
    kept = [length] * shape.n_layers
    if {"ltp", "acc"} & set(chosen):
        ends = sorted((rng.choice([1, rng.randint(1, length)]) for _ in kept), reverse=True)
        kept = rng.choice([[1] * len(kept), ends])
    counts = token_counts(length, kept, "acc" if "acc" in chosen else "ltp")
    if "early_exit" not in chosen:
        return encoder_macs_at(shape, counts)
    exits = [*exit_layers(positions, shape.n_layers), shape.n_layers - 1]
    last = rng.choice([exits[0], rng.choice(exits)])
    form = rng.choice([("linear", "first", 1), ("mlp", "both", 64), ("attention", "mean", 64)])
    kind, read, width = form
    head = exit_macs(kind, read, shape.hidden_size, width, rng.choice([2, 6]), kept[last])
    run = EncoderShape(
        shape.hidden_size, shape.head_dim, shape.heads[: last + 1], shape.filters[: last + 1]
    )
    return encoder_macs_at(run, counts[: last + 1]) + head


def least_of_all(shape: EncoderShape, histogram: LengthHistogram) -> Any:
    return least_ratios(dict.fromkeys(NAMES, {}), Reach(shape, histogram))


def recipe_of(chosen: Any, **choices: Any) -> Any:
    """A recipe with choices of exits, and as much as may be left to them by what comes before."""
    own: dict[str, Any] = {"early_exit": choices, "fisher": {"constraint": 0.8}}
    return tuple(Step.of(name, own.get(name, {})) for name in chosen)


def test_no_recipe_costs_less_than_is_said(rng: random.Random) -> None:
    """On any part of the workload's rows, which may have shorter or longer texts."""
    for _ in range(60):
        n_heads = rng.randint(1, 8)
        shape = EncoderShape.dense(8 * n_heads, rng.randint(2, 8), n_heads, rng.randint(1, 200))
        lengths = [rng.randint(1, 60) for _ in range(8)]
        least = least_of_all(shape, LengthHistogram.from_lengths(lengths))
        assert set(least) == set(sound_combinations(NAMES))
        for chosen, ratio in least.items():
            for _ in range(20):
                rows = rng.sample(lengths, rng.randint(1, 8))
                pruned = smaller(shape, rng) if "fisher" in chosen else shape
                cost = sum(cost_of(chosen, pruned, length, rng) for length in rows)
                assert ratio <= cost / sum(encoder_macs(shape, n) for n in rows) + 1e-12, chosen


@pytest.mark.parametrize("positions", ["all", "upper", "even"])
def test_no_recipe_costs_less_than_is_said_of_its_own_choices(
    positions: str, rng: random.Random
) -> None:
    for _ in range(40):
        n_heads = rng.randint(1, 8)
        shape = EncoderShape.dense(8 * n_heads, rng.randint(2, 12), n_heads, rng.randint(1, 200))
        lengths = [rng.randint(1, 60) for _ in range(8)]
        histogram = LengthHistogram.from_lengths(lengths)
        reach, least = Reach(shape, histogram), least_of_all(shape, histogram)
        for chosen in sound_combinations(NAMES):
            ratio = reach.least_of(recipe_of(chosen, positions=positions))
            assert ratio >= least[chosen]
            for _ in range(20):
                rows = rng.sample(lengths, rng.randint(1, 8))
                pruned = smaller(shape, rng) if "fisher" in chosen else shape
                cost = sum(cost_of(chosen, pruned, length, rng, positions) for length in rows)
                assert ratio <= cost / sum(encoder_macs(shape, n) for n in rows) + 1e-12, chosen


def test_exits_of_the_upper_half_leave_the_lower_half_to_be_paid() -> None:
    reach = Reach(MINILM, LengthHistogram({40: 3}))
    first, upper = (recipe_of(["early_exit"], positions=each) for each in ("all", "upper"))
    assert reach.least_of(first) == pytest.approx(1 / 6, rel=0.01)
    assert reach.least_of(upper) == pytest.approx(3 / 6, rel=0.01)
    pins = {"early_exit": {"positions": ["upper"]}, "acc": {}}
    pinned, free = least_ratios(pins, reach), least_of_all(MINILM, LengthHistogram({40: 3}))
    assert pinned["early_exit",] == reach.least_of(upper)
    assert pinned["acc", "early_exit"] == pytest.approx(3 * free["acc", "early_exit"], rel=0.01)


def test_units_taken_below_an_exit_leave_nothing_certain() -> None:
    """What is left at a chosen cost may all lie above the exit."""
    chosen = ["fisher", "early_exit"]
    lower = EncoderShape(384, 32, (0, 0, 0, 12, 12, 12), (0, 0, 0, 1536, 1536, 1536))
    assert encoder_macs(lower, 40) == encoder_macs(MINILM, 40) / 2
    assert (
        Reach(MINILM, LengthHistogram({40: 1})).least_of(recipe_of(chosen, positions="upper")) == 0
    )


def test_the_least_cost_is_near_what_can_be_had() -> None:
    """A bound of nothing would hold as well, and leave nothing out."""
    least = least_of_all(MINILM, LengthHistogram({40: 3}))
    assert least["early_exit",] == pytest.approx(1 / 6, rel=0.01)
    assert 0.05 < least["acc",] < least["ltp",] < 0.1
    assert least["acc", "early_exit"] == pytest.approx(least["acc",] / 6, rel=0.01)
    assert all(ratio == 0 for chosen, ratio in least.items() if "fisher" in chosen)


def test_what_cannot_meet_the_budget_is_left_out() -> None:
    least = {("a",): 0.62, ("b",): 0.3, ("a", "b"): 0.186}
    assert out_of_reach(least, 0.5) == [("a",)]
    assert out_of_reach(least, 0.2) == [("a",), ("b",)]
    assert say_left_out(least, 0.2) == (
        "a alone cannot go below 62.0%; b alone cannot go below 30.0%"
    )


def test_what_is_hardly_over_the_budget_is_shown_to_be() -> None:
    said = say_left_out({("a",): 0.50032, ("b",): 0.1}, 0.5)
    assert said == "a alone cannot go below 50.03%"


def test_what_meets_it_exactly_stays() -> None:
    assert out_of_reach({("a",): 0.1 + 0.2, ("b",): 0.1}, 0.3) == []


@pytest.mark.parametrize("budget", [None, 0.1, 1.0, 3.0])
def test_nothing_is_left_out_without_a_choice_or_a_need(budget: float | None) -> None:
    least = {("a",): 0.62, ("b",): 0.3}
    assert out_of_reach(least, budget) == [] and say_left_out(least, budget) is None


# In runs


def tried(bench: Any) -> set[tuple[str, ...]]:
    return {tuple(step["strategy"] for step in recipe) for recipe in bench.recipes()}


def test_a_search_leaves_out_what_is_over_its_budget(bench: Any, fake: Any) -> None:
    names = ["ltp", "early_exit"]
    bench.run(fake(), bench.spec(search__strategies=names, search__trials=8, budget__flops="45%"))
    assert tried(bench) == {("ltp",), ("ltp", "early_exit")}
    (said,) = [note for note in bench.reporter.notes if note.startswith("left out")]
    assert said == "left out: early_exit alone cannot go below 50.0%"
    bench.run(fake(), bench.spec(search__strategies=names, search__trials=12, budget__flops="60%"))
    assert ("early_exit",) in tried(bench), "another budget may need what this one did not"
    assert bench.problems() == []


@pytest.fixture
def six_layers(fake: Any, make_survey: Any, value_of: Any) -> Any:
    """Workers whose model has six layers, of which exits of the upper half need three."""

    def script(job: Any, nth: int) -> Any:
        if isinstance(job, SurveyJob):
            return make_survey(shape=EncoderShape.dense(32, 6, 4, 64))
        if not isinstance(job, LadderJob):
            return None
        return [replace(each, measurement=cheap(each.measurement)) for each in value_of(job)]

    def cheap(measured: Any) -> Any:
        return replace(measured, flops=0.5 * measured.flops)

    return fake(script)


def positions_of(bench: Any) -> set[tuple[int, Value]]:
    """How many steps the recipes tried have, and where their exits are."""
    return {(len(recipe), recipe[-1]["choices"]["positions"]) for recipe in bench.recipes()}


def test_a_recipe_that_is_over_the_budget_is_passed_over(bench: Any, six_layers: Any) -> None:
    pins = {"positions": ["upper", "even"], "epochs": 5}
    stop = {"gain": "100%", "patience": 8}
    spec = bench.spec(
        search__strategies=[{"early_exit": pins}],
        search__trials=12,
        search__stop=stop,
        budget__flops="40%",
    )
    bench.run(six_layers, spec)
    assert positions_of(bench) == {(1, "even")}
    assert any("stopped" in note for note in bench.reporter.notes), "it waits for no such recipe"
    assert len(bench.states()) < 12 and bench.problems() == []


def test_behind_pruning_the_same_choice_may_meet_it(bench: Any, six_layers: Any) -> None:
    strategies = ["fisher", {"early_exit": {"positions": ["upper", "even"]}}]
    spec = bench.spec(search__strategies=strategies, search__trials=14, budget__flops="40%")
    bench.run(six_layers, spec)
    of_exits = {
        (len(recipe), recipe[-1]["choices"]["positions"])
        for recipe in bench.recipes()
        if recipe[-1]["strategy"] == "early_exit"
    }
    assert (2, "upper") in of_exits and (1, "upper") not in of_exits


def test_where_all_recipes_are_over_the_budget_none_is_passed_over(
    bench: Any, six_layers: Any
) -> None:
    strategies = [{"early_exit": {"positions": ["upper", "even"]}}]
    spec = bench.spec(search__strategies=strategies, search__trials=8, budget__flops="10%")
    bench.run(six_layers, spec)
    assert len(bench.states()) == 8 and (1, "upper") in positions_of(bench)


def test_what_is_pinned_leaves_out_a_combination(bench: Any, six_layers: Any) -> None:
    strategies = ["acc", {"early_exit": {"positions": "upper"}}]
    spec = bench.spec(search__strategies=strategies, search__trials=5, budget__flops="40%")
    bench.run(six_layers, spec)
    assert tried(bench) == {("acc",), ("acc", "early_exit")}
    (said,) = [note for note in bench.reporter.notes if note.startswith("left out")]
    assert said.startswith("left out: early_exit alone cannot go below 50.")


def test_a_search_that_cannot_meet_its_budget_comes_as_close_as_it_can(
    bench: Any, fake: Any
) -> None:
    spec = bench.spec(search__strategies=["early_exit"], search__trials=3, budget__flops="20%")
    result = bench.run(fake(), spec)
    assert not result.choice.feasible and bench.states() == ["complete"] * 3
    assert not [note for note in bench.reporter.notes if note.startswith("left out")]
