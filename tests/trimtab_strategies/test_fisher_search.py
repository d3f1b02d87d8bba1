import itertools

import numpy as np
import pytest

from trimtab_strategies.fisher._search import search_mask


def brute_force(heads, filters, head_cost, filter_cost, budget):
    """The least lost importance over every subset that fits."""
    best = np.inf
    for kept_heads in itertools.product((0, 1), repeat=len(heads)):
        for kept_filters in itertools.product((0, 1), repeat=len(filters)):
            cost = head_cost * sum(kept_heads) + filter_cost * sum(kept_filters)
            if cost <= budget:
                lost = sum(v for v, k in zip(heads, kept_heads, strict=True) if not k)
                lost += sum(v for v, k in zip(filters, kept_filters, strict=True) if not k)
                best = min(best, lost)
    return best


def test_equals_brute_force_on_tiny_cases_and_is_never_over_budget(seed):
    rng = np.random.default_rng(seed)
    for _ in range(150):
        heads, filters = (
            rng.exponential(size=rng.integers(1, 5)),
            rng.exponential(size=rng.integers(1, 8)),
        )
        if rng.random() < 0.3:
            heads, filters = np.round(heads), np.round(filters)  # ties and zeros
        head_cost, filter_cost = int(rng.integers(1, 12)), int(rng.integers(1, 5))
        budget = int(rng.integers(0, head_cost * len(heads) + filter_cost * len(filters) + 3))
        mask = search_mask(heads, filters, head_cost, filter_cost, budget)
        cost = head_cost * mask.heads.sum() + filter_cost * mask.filters.sum()
        assert cost <= budget
        lost = heads[~mask.heads].sum() + filters[~mask.filters].sum()
        expected = brute_force(heads, filters, head_cost, filter_cost, budget)
        assert lost == pytest.approx(expected, abs=1e-9)
        assert mask.lost_importance == pytest.approx(lost, abs=1e-9)


def test_a_budget_below_the_attention_share_is_not_exceeded():
    mask = search_mask(np.ones(144), np.full(36_864, 1e-3), 139, 1, budget=144 * 139 // 4)
    assert 139 * mask.heads.sum() + mask.filters.sum() <= 144 * 139 // 4


def test_no_budget_keeps_nothing_and_a_full_one_keeps_everything():
    heads, filters = np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])
    nothing = search_mask(heads, filters, 5, 2, 0)
    assert not nothing.heads.any() and not nothing.filters.any()
    everything = search_mask(heads, filters, 5, 2, 16)
    assert everything.heads.all() and everything.filters.all()
    assert everything.lost_importance == 0


@pytest.mark.parametrize(
    ("heads", "costs", "budget", "message"),
    [
        ([np.nan], (1, 1), 1, "finite"),
        ([-1.0], (1, 1), 1, "not negative"),
        ([1.0], (0, 1), 1, "positive"),
        ([1.0], (1, 1), -1, "budget must not be negative"),
    ],
)
def test_senseless_input_is_refused(heads, costs, budget, message):
    with pytest.raises(ValueError, match=message):
        search_mask(np.array(heads), np.ones(2), *costs, budget)
