from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.frontier import hypervolume, non_dominated

# Few distinct values, so that ties in one coordinate and in both are common.
coordinate = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-5, 5, allow_nan=False, allow_infinity=False)
)
point_lists = st.lists(st.tuples(coordinate, coordinate), max_size=40)


def beaten(point: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    return any(o[0] <= point[0] and o[1] <= point[1] and o != point for o in others)


def area_by_cells(points: list[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Sums the cells of the grid through all coordinates whose lower corner is dominated."""
    xs = sorted({p[0] for p in points if p[0] < reference[0]} | {reference[0]})
    ys = sorted({p[1] for p in points if p[1] < reference[1]} | {reference[1]})
    return math.fsum(
        (x1 - x0) * (y1 - y0)
        for x0, x1 in zip(xs, xs[1:], strict=False)
        for y0, y1 in zip(ys, ys[1:], strict=False)
        if any(p[0] <= x0 and p[1] <= y0 for p in points)
    )


@given(point_lists)
def test_non_dominated_agrees_with_comparing_every_pair(points):
    expected = [not beaten(point, points) for point in points]
    assert non_dominated([p[0] for p in points], [p[1] for p in points]) == expected


def test_non_dominated_keeps_exact_ties_and_drops_half_ties():
    drops = [0.01, 0.01, 0.01, 0.00, 0.02]
    costs = [0.40, 0.40, 0.50, 0.80, 0.40]
    assert non_dominated(drops, costs) == [True, True, False, True, False]


def test_non_dominated_of_nothing_is_nothing():
    assert non_dominated([], []) == []


@given(point_lists, st.tuples(coordinate, coordinate))
def test_hypervolume_agrees_with_counting_cells(points, reference):
    area = hypervolume([p[0] for p in points], [p[1] for p in points], reference)
    assert area == pytest.approx(area_by_cells(points, reference), rel=1e-9, abs=1e-9)


@given(point_lists)
def test_hypervolume_needs_only_the_frontier(points):
    drops, costs = [p[0] for p in points], [p[1] for p in points]
    kept = non_dominated(drops, costs)
    frontier = [p for p, keep in zip(points, kept, strict=True) if keep]
    assert hypervolume(drops, costs, (6, 6)) == pytest.approx(
        hypervolume([p[0] for p in frontier], [p[1] for p in frontier], (6, 6)), rel=1e-12
    )


def test_hypervolume_of_two_steps():
    assert hypervolume([0.0, 1.0], [3.0, 1.0], (2.0, 4.0)) == 1 * 2 + 1 * 3 - 1 * 1


def test_a_quarter_of_a_million_points_take_no_time():
    seed = 7
    print("seed", seed)
    rng = np.random.default_rng(seed)
    drops, costs = rng.random(250_000).tolist(), rng.random(250_000).tolist()
    start = time.perf_counter()
    flags = non_dominated(drops, costs)
    hypervolume(drops, costs, (1.0, 1.0))
    assert time.perf_counter() - start < 5  # comparing pairs would take an hour
    assert 1 <= sum(flags) < 100


@pytest.mark.parametrize(
    ("drops", "costs", "says"),
    [
        ([0.1], [], "one drop and one cost"),
        ([math.nan], [1.0], "finite"),
        ([0.0], [math.inf], "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(drops, costs, says):
    with pytest.raises(ValueError, match=says):
        non_dominated(drops, costs)
    with pytest.raises(ValueError, match=says):
        hypervolume(drops, costs, (1.0, 1.0))
