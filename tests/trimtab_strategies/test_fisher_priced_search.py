"""The search under a budget of time, against every choice there is."""

import itertools
import random

import numpy as np
import pytest

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.fisher._priced_search import most_within, search_within_time
from trimtab_strategies.fisher.prices import Piecewise, Prices

EVEN = Prices(
    Piecewise(1.0, 1.0, 1), Piecewise(1.0, 1.0, 1), Piecewise(1.0, 1.0, 1), Piecewise(1, 1, 1), 1
)


@pytest.fixture
def rng():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def rising(rng, n_units, high):
    """What 0, 1, 2 ... units are worth or cost: whole numbers, from nothing."""
    return np.concatenate([[0.0], np.cumsum(rng.integers(0, high, n_units))]).astype(float)


def best_of_all(gains, costs, limit):
    """The most that any choice of counts within the limit is worth."""
    every = itertools.product(*(range(len(gain)) for gain in gains))
    worth = ((sum(c[n] for c, n in zip(costs, counts, strict=True)), counts) for counts in every)
    fits = [counts for cost, counts in worth if cost <= limit]
    return max(sum(g[n] for g, n in zip(gains, counts, strict=True)) for counts in fits)


def test_no_choice_within_the_limit_is_worth_more(rng):
    for _ in range(60):
        sizes = rng.integers(0, 5, size=rng.integers(1, 5))
        gains = [rising(rng, n, 9) for n in sizes]
        costs = [rising(rng, n, 5) for n in sizes]
        limit = float(rng.choice([0, 4, 8, 16, 32]))  # whole numbers of steps, so that it is exact
        counts = most_within(gains, costs, limit)
        assert sum(c[n] for c, n in zip(costs, counts, strict=True)) <= limit
        worth = sum(g[n] for g, n in zip(gains, counts, strict=True))
        assert worth == best_of_all(gains, costs, limit)


def test_a_mask_is_never_over_the_time_and_more_time_keeps_no_less(rng):
    for _ in range(20):
        heads = list(rng.random((4, 6)))
        filters = [rng.random(n) for n in (32, 48, 0, 40)]
        fits = [Piecewise(*rng.random(2), int(rng.integers(1, 4))) for _ in range(4)]
        prices = Prices(*fits, block=8)
        shape = EncoderShape(1, 1, (6,) * 4, (32, 48, 0, 40))
        before = 0.0
        for share in (0.0, 0.2, 0.5, 0.9, 1.001):
            found = search_within_time(heads, filters, prices, share)
            n_heads, n_filters = ([int(mask.sum()) for mask in masks] for masks in found)
            blocks = [-(-n // 8) for n in n_filters]
            spent = sum(map(sum, prices.of(shape, n_heads, blocks)))
            assert spent <= prices.evenly(shape, share) * (1 + 1e-9)
            parts = zip([*heads, *filters], [*found[0], *found[1]], strict=True)
            kept = sum(importance[mask].sum() for importance, mask in parts)
            assert kept >= before - 1e-9
            before = kept
        assert all(mask.all() for masks in found for mask in masks)


def test_the_most_important_units_of_a_layer_stay_in_whole_blocks():
    importance = np.array([1.0, 9.0, 3.0, 7.0, 5.0, 2.0])
    prices = Prices(EVEN.heads, EVEN.blocks, EVEN.heads, EVEN.blocks, block=2)
    _, (kept,) = search_within_time([np.zeros(0)], [importance], prices, 2 / 3)
    assert kept.tolist() == [False, True, True, True, True, False]


def test_a_whole_part_goes_where_its_level_is_dear():
    # Time for one layer's attention: dropping the other's buys more than thinning both.
    dear = Piecewise(4.0, 0.1, 1)
    prices = Prices(dear, EVEN.blocks, dear, EVEN.blocks, block=1)
    heads = [np.array([5.0, 5.0, 5.0]), np.array([1.0, 1.0, 1.0])]
    gains = [np.cumsum([0, *one]) for one in heads]
    assert most_within(gains, [dear.of(np.arange(4))] * 2, 4.3) == [3, 0]
    found, _ = search_within_time(heads, [np.zeros(0)] * 2, prices, 0.7)
    assert [int(mask.sum()) for mask in found] == [3, 1]  # 4.2 + 4.0 of 2 * 4.11


def test_a_last_layer_that_is_free_keeps_everything():
    free = Piecewise(0.0, 0.0, 1)
    prices = Prices(EVEN.heads, EVEN.blocks, free, free, block=4)
    importance = [np.ones(4), np.full(4, 1e-6)]
    heads, filters = search_within_time(importance, importance, prices, 0.3)
    assert heads[1].all() and filters[1].all()
    assert not (heads[0].all() and filters[0].all())


def test_what_cannot_be_is_refused():
    one = [np.array([0.0, 1.0])]
    with pytest.raises(ValueError, match="limit"):
        most_within(one, one, float("nan"))
    with pytest.raises(ValueError, match="importances"):
        most_within([np.array([0.0, float("nan")])], one, 1.0)
    with pytest.raises(ValueError, match="prices"):
        most_within(one, [np.array([0.0, -1.0])], 1.0)
