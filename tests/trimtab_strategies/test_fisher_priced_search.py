"""The search under a budget of time, against every choice there is."""

import itertools

import numpy as np
import pytest

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.fisher._priced_search import PricedSearch, most_within
from trimtab_strategies.fisher.prices import Piecewise, Prices

EVEN = Prices(
    Piecewise(1.0, 1.0, 1), Piecewise(1.0, 1.0, 1), Piecewise(1.0, 1.0, 1), Piecewise(1, 1, 1), 1
)


def search_within_time(heads, filters, prices, share):
    """The masks of most importance within the time of an evenly sliced model."""
    search = PricedSearch(heads, filters, prices)
    return search.best(prices.evenly(search.shape, share))


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


def rising(rng, n_units, high):
    """What 0, 1, 2 ... units are worth or cost: whole numbers, from nothing."""
    return np.concatenate([[0.0], np.cumsum(rng.integers(0, high, n_units))]).astype(float)


def best_of_all(gains, costs, limit, least):
    """The most that any choice of counts within the limit is worth; None if there is none."""
    every = itertools.product(*(range(min(least, len(g) - 1), len(g)) for g in gains))
    worth = ((sum(c[n] for c, n in zip(costs, counts, strict=True)), counts) for counts in every)
    fits = [counts for cost, counts in worth if cost <= limit]
    worths = (sum(g[n] for g, n in zip(gains, counts, strict=True)) for counts in fits)
    return max(worths, default=None)


def test_no_choice_within_the_limit_is_worth_more(rng):
    for _ in range(60):
        sizes = rng.integers(0, 5, size=rng.integers(1, 5))
        gains = [rising(rng, n, 9) for n in sizes]
        costs = [rising(rng, n, 5) for n in sizes]
        limit = float(rng.choice([0, 4, 8, 16, 32]))  # whole numbers of steps, so that it is exact
        for least in (0, 1):
            counts = most_within(gains, costs, limit, least)
            best = best_of_all(gains, costs, limit, least)
            if counts is None:
                assert best is None
                continue
            assert sum(c[n] for c, n in zip(costs, counts, strict=True)) <= limit
            assert sum(g[n] for g, n in zip(gains, counts, strict=True)) == best
            assert min(n - min(least, len(g) - 1) for n, g in zip(counts, gains, strict=True)) >= 0


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


def test_all_candidates_are_within_the_time_and_one_of_them_is_chosen_by_flops():
    heads = [np.array([9.0, 8.0, 7.0]), np.array([1.0, 1.0, 1.0])]
    filters = [np.arange(8.0), np.arange(8.0) / 100]
    search = PricedSearch(heads, filters, Prices(*[Piecewise(1.0, 0.5, 1)] * 4, block=2))
    asked = []

    def by_flops(share):
        """As many units of each part as the share says, as if all were alike."""
        asked.append(share)
        return tuple(
            [np.arange(len(one)) < int(share * len(one)) for one in kind]
            for kind in (heads, filters)
        )

    limit = search.prices.evenly(search.shape, 0.6)
    free, whole, flops = search.candidates(0.6, by_flops)
    assert all(search.time_of(masks) <= limit + 1e-9 for masks in (free, whole, flops))
    assert all(mask.any() for kind in whole for mask in kind)
    assert asked and any(np.array_equal(flops[0][0], by_flops(s)[0][0]) for s in list(asked))
    # In no time, not even one unit of each part can be kept; to keep nothing is one candidate.
    assert len(search.candidates(0.0, by_flops)) == 1


def test_what_cannot_be_is_refused():
    one = [np.array([0.0, 1.0])]
    with pytest.raises(ValueError, match="limit"):
        most_within(one, one, float("nan"))
    with pytest.raises(ValueError, match="importances"):
        most_within([np.array([0.0, float("nan")])], one, 1.0)
    with pytest.raises(ValueError, match="prices"):
        most_within(one, [np.array([0.0, -1.0])], 1.0)
