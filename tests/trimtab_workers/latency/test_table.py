"""Curves, surfaces, and the table they are kept in."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from trimtab_strategies.elastic.linear_trimtab import rounded
from trimtab_strategies.elastic.rows_trimtab import PackedTokens
from trimtab_workers.latency.table import Curve, LatencyTable, Surface


def test_a_curve_runs_straight_between_sizes_and_on_behind_the_last() -> None:
    curve = Curve((2.0, 4.0, 8.0), (1.0, 3.0, 4.0))
    got = curve.of([[0, 2, 3], [4, 6, 12]])
    np.testing.assert_allclose(got, [[1.0, 1.0, 2.0], [3.0, 3.5, 5.0]])


def test_more_never_takes_less_time_and_what_is_measured_twice_is_averaged() -> None:
    curve = Curve.through([(8, 4.0), (1, 1.0), (2, 5.0), (4, 2.0), (1, 2.0)])
    assert curve == Curve((1.0, 2.0, 4.0, 8.0), (1.5, 3.5, 3.5, 4.0))


def test_a_surface_runs_straight_between_widths_and_ends_at_the_widest() -> None:
    surface = Surface.through({4: [(0, 4.0), (2, 8.0)], 0: [(0, 0.0), (2, 2.0)]})
    assert surface.of(0, 1) == 1.0
    assert surface.of(1, 1) == 0.75 * 1.0 + 0.25 * 6.0
    assert surface.of(9, [2]).tolist() == [8.0]


@pytest.mark.parametrize("sizes", [(), (2.0, 1.0), (1.0, 1.0)])
def test_a_curve_needs_ascending_sizes(sizes: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Curve(sizes, tuple(0.0 for _ in sizes))


def table(*, rounds: bool) -> LatencyTable:
    parts = {"front": Surface.through({0: [(1, 0.25), (9, 1.5)]})}
    return LatencyTable("cpu", "float32", 2, 4, 8, 2, 4e6, rounds, parts, 1.25)


def test_a_table_survives_json() -> None:
    whole = table(rounds=True)
    assert LatencyTable.from_plain(json.loads(json.dumps(whole.to_plain()))) == whole


def test_rows_are_rounded_as_the_model_rounds_them() -> None:
    counts = np.arange(1, 5000)
    expected = [rounded(int(count)) for count in counts]
    assert table(rounds=True).rounded(counts).tolist() == expected
    assert table(rounds=True).rounded(np.array([0])).tolist() == [0]
    assert table(rounds=False).rounded(counts).tolist() == counts.tolist()


@pytest.mark.parametrize("n_texts", [1, 2])
@pytest.mark.parametrize("step", [1, 8, 16])
def test_texts_are_padded_as_the_model_pads_them(n_texts: int, step: int) -> None:
    known = replace(table(rounds=True), batch_size=n_texts, step=step)
    for length in range(1, 70):
        rows = torch.zeros(rounded(n_texts * length), 4)
        tokens = PackedTokens(rows, [length] * n_texts, torch.arange(n_texts), 4)
        (group,) = tokens.groups(step)
        assert known.padded(np.array([length])).tolist() == [group.length]


def test_a_part_that_is_there_at_all_has_its_fixed_cost() -> None:
    # Nothing takes 1; ten units 6 and twenty 8: so one unit takes 4.2, and not 1.5.
    flat = Surface.through(
        {width: [(0, ms), (9, ms)] for width, ms in ((0, 1.0), (10, 6.0), (20, 8.0))}
    )
    assert [float(flat.of(width, 5)) for width in (0, 1, 5, 10, 15)] == [1.0, 4.2, 5.0, 6.0, 7.0]
    # Where the line would go below nothing's time, that is the least.
    steep = Surface.through(
        {width: [(0, ms), (9, ms)] for width, ms in ((0, 1.0), (10, 2.0), (20, 20.0))}
    )
    assert float(steep.of(1, 5)) == 1.0 and float(steep.of(10, 5)) == 2.0
