"""What recipes cost at least: never more than any of them does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trimtab.controller._reach import least_ratios, out_of_reach, say_left_out
from trimtab.controller._space import sound_combinations
from trimtab_strategies import registry
from trimtab_strategies.cost import (
    EncoderShape,
    LengthHistogram,
    encoder_macs,
    encoder_macs_at,
    exit_macs,
    token_counts,
)

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


def cost_of(chosen: Any, shape: EncoderShape, length: int, rng: random.Random) -> int:
    """What one sample costs with some setting of everything that the strategies may do, in MACs."""
    kept = [length] * shape.n_layers
    if {"ltp", "acc"} & set(chosen):
        ends = sorted((rng.choice([1, rng.randint(1, length)]) for _ in kept), reverse=True)
        kept = rng.choice([[1] * len(kept), ends])
    counts = token_counts(length, kept, "acc" if "acc" in chosen else "ltp")
    if "early_exit" not in chosen:
        return encoder_macs_at(shape, counts)
    last = rng.choice([0, rng.randrange(shape.n_layers)])
    form = rng.choice([("linear", "first", 1), ("mlp", "both", 64), ("attention", "mean", 64)])
    kind, read, width = form
    head = exit_macs(kind, read, shape.hidden_size, width, rng.choice([2, 6]), kept[last])
    run = EncoderShape(
        shape.hidden_size, shape.head_dim, shape.heads[: last + 1], shape.filters[: last + 1]
    )
    return encoder_macs_at(run, counts[: last + 1]) + head


def test_no_recipe_costs_less_than_is_said(rng: random.Random) -> None:
    """On any part of the workload's rows, which may have shorter or longer texts."""
    for _ in range(60):
        n_heads = rng.randint(1, 8)
        shape = EncoderShape.dense(8 * n_heads, rng.randint(2, 8), n_heads, rng.randint(1, 200))
        lengths = [rng.randint(1, 60) for _ in range(8)]
        least = least_ratios(NAMES, shape, LengthHistogram.from_lengths(lengths))
        assert set(least) == set(sound_combinations(NAMES))
        for chosen, ratio in least.items():
            for _ in range(20):
                rows = rng.sample(lengths, rng.randint(1, 8))
                pruned = smaller(shape, rng) if "fisher" in chosen else shape
                cost = sum(cost_of(chosen, pruned, length, rng) for length in rows)
                assert ratio <= cost / sum(encoder_macs(shape, n) for n in rows) + 1e-12, chosen


def test_the_least_cost_is_near_what_can_be_had() -> None:
    """A bound of nothing would hold as well, and leave nothing out."""
    least = least_ratios(NAMES, MINILM, LengthHistogram({40: 3}))
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


def test_a_search_that_cannot_meet_its_budget_comes_as_close_as_it_can(
    bench: Any, fake: Any
) -> None:
    spec = bench.spec(search__strategies=["early_exit"], search__trials=3, budget__flops="20%")
    result = bench.run(fake(), spec)
    assert not result.choice.feasible and bench.states() == ["complete"] * 3
    assert not [note for note in bench.reporter.notes if note.startswith("left out")]
