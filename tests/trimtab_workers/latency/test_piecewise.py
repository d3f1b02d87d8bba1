"""The published fit, and the search under its limit against every mask there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from trimtab_workers.latency.piecewise import Piecewise, search_under_latency


@pytest.mark.parametrize(
    ("measured", "fit"),
    [
        ([1, 1, 1, 2, 3, 4], Piecewise(1.0, 1.0, 3)),  # the published example
        ([2, 2, 2], Piecewise(2.0, 0.0, 1)),
        ([3], Piecewise(3.0, 0.0, 1)),
        ([3, 2, 1], Piecewise(2.0, 0.0, 3)),  # never falling
        ([1, 3, 5], Piecewise(1.0, 2.0, 1)),
    ],
)
def test_the_nearest_fit_is_taken(measured: list[float], fit: Piecewise) -> None:
    assert Piecewise.fit(measured) == fit


def test_nothing_takes_no_time() -> None:
    fit = Piecewise(2.0, 0.5, 3)
    assert fit.of(np.arange(6)).tolist() == [0, 2, 2, 2, 2.5, 3]
    with pytest.raises(ValueError, match="at least one"):
        Piecewise.fit([])


def cost(mask: np.ndarray, fit: Piecewise) -> float:
    return float(fit.of(mask.sum(axis=1)).sum())


def best_of_all(heads, filters, of_heads, of_filters, limit) -> float:  # type: ignore[no-untyped-def]
    """The most importance that any mask within the limit keeps."""
    best = 0.0
    n_heads, n_filters = heads.size, filters.size
    for bits in product((False, True), repeat=n_heads + n_filters):
        some_heads = np.array(bits[:n_heads]).reshape(heads.shape)
        some_filters = np.array(bits[n_heads:]).reshape(filters.shape)
        if cost(some_heads, of_heads) + cost(some_filters, of_filters) <= limit:
            best = max(best, heads[some_heads].sum() + filters[some_filters].sum())
    return best


@pytest.fixture
def random() -> np.random.Generator:
    seed = int(np.random.default_rng().integers(2**31))
    print(f"seed {seed}")
    return np.random.default_rng(seed)


# Where a layer's order decides alone - one layer, or all units within the threshold - it is exact.
@pytest.mark.parametrize(("n_layers", "n_units", "threshold"), [(1, 4, 2), (1, 5, 1), (3, 2, 2)])
def test_no_mask_within_the_limit_keeps_more(
    random: np.random.Generator, n_layers: int, n_units: int, threshold: int
) -> None:
    for _ in range(12):
        heads, filters = random.integers(0, 9, (2, n_layers, n_units)).astype(float)
        # Whole numbers, so that sums within the limit are so exactly; slopes of 0 among them.
        of_heads, of_filters = (
            Piecewise(float(random.integers(0, 5)), float(random.integers(0, 3)), threshold)
            for _ in range(2)
        )
        limit = float(random.integers(0, 20))
        found = search_under_latency(heads, filters, of_heads, of_filters, limit)
        assert cost(found[0], of_heads) + cost(found[1], of_filters) <= limit
        kept = heads[found[0]].sum() + filters[found[1]].sum()
        assert kept == best_of_all(heads, filters, of_heads, of_filters, limit)


def test_a_mask_is_never_over_the_limit(random: np.random.Generator) -> None:
    for _ in range(50):
        heads, filters = random.random((4, 6)), random.random((4, 30))
        of_heads = Piecewise(random.random(), random.random(), int(random.integers(1, 7)))
        of_filters = Piecewise(random.random(), random.random() / 9, int(random.integers(1, 31)))
        everything = cost(heads >= 0, of_heads) + cost(filters >= 0, of_filters)
        before = 0.0
        for share in (0.0, 0.2, 0.5, 0.9, 1.01):
            limit = share * everything
            found = search_under_latency(heads, filters, of_heads, of_filters, limit)
            spent = cost(found[0], of_heads) + cost(found[1], of_filters)
            assert spent <= limit * (1 + 1e-9)
            kept = heads[found[0]].sum() + filters[found[1]].sum()
            assert kept >= before - 1e-9  # what was found under less is not forgotten under more
            before = kept
        assert found[0].all() and found[1].all()


def test_all_layers_may_go_and_a_limit_of_nothing_is_kept() -> None:
    importance = np.ones((2, 3))
    fit = Piecewise(1.0, 0.5, 1)
    for limit in (0.0, 0.99):
        heads, filters = search_under_latency(importance, importance, fit, fit, limit)
        assert not heads.any() and not filters.any()


def test_what_is_kept_at_the_level_counts() -> None:
    # Keeping the filters' part is worth 5 for its level; the heads' further ones are worth 2 each.
    heads, filters = np.array([[1.0, 1.0, 1.0]]), np.array([[5.0]])
    found = search_under_latency(heads, filters, Piecewise(1, 1, 1), Piecewise(3, 0, 1), 3.0)
    assert not found[0].any() and found[1].all()


def test_what_cannot_be_is_refused() -> None:
    ones, fit = np.ones((1, 2)), Piecewise(1.0, 1.0, 1)
    with pytest.raises(ValueError, match="limit"):
        search_under_latency(ones, ones, fit, fit, float("nan"))
    with pytest.raises(ValueError, match="head importances"):
        search_under_latency(-ones, ones, fit, fit, 1.0)
    with pytest.raises(ValueError, match="threshold"):
        Piecewise(1.0, 1.0, 0)
