"""Prices of heads and filters, from made-up tables whose times are known numbers."""

from __future__ import annotations

import pytest

from trimtab_strategies.cost import EncoderShape
from trimtab_workers.latency.prices import BLOCK, prices_of
from trimtab_workers.latency.table import LatencyTable, Surface
from trimtab_workers.latency.workload import Workload

SHAPE = EncoderShape(8, 2, (4, 4, 4), (64, 64, 64))
NAMES = ["front", "head", "leave", "attended", "fed", "asked/none", "asked/last"]
NAMES += ["few/none", "few/last", "many/none", "many/last"]


def by_width(slope: float, level: float = 0.0) -> Surface:
    """``level`` for any width but none, and ``slope`` for each unit, both for each row."""

    def line(ms: float) -> list[tuple[float, float]]:
        return [(0, 0.0), (1000, 1000 * ms)]

    widths = {width: line(level + slope * width) for width in (1, 100)}
    return Surface.through({0: line(0.0), **widths})


def table(**parts: Surface) -> LatencyTable:
    named = {name.replace("__", "/"): part for name, part in parts.items()}
    every = {name: by_width(0.0) for name in NAMES} | named
    return LatencyTable("cpu", "float32", 1, 1, 8, 2, 4e6, False, every)


def test_the_last_layer_is_cheap_as_it_is_computed_for_one_token() -> None:
    parts = table(fed=by_width(0.01), asked__none=by_width(0.1), asked__last=by_width(0.1))
    prices = prices_of(parts, SHAPE, [10] * 8, Workload(1, "cpu", 1), "mean")
    # 10 rows: a block of 16 filters takes 1.6, a head 1; in the last layer the block is for 1 row.
    assert prices.blocks.slope == pytest.approx(10 * prices.last_blocks.slope, rel=1e-2)
    assert prices.blocks.slope / prices.heads.slope == pytest.approx(0.16 * BLOCK / 1.6, rel=1e-2)
    assert prices.last_heads.slope == pytest.approx(prices.heads.slope, rel=1e-2)
    assert prices.evenly(SHAPE, 1.0) == pytest.approx(1.0, rel=1e-3)


def test_what_a_part_takes_at_least_is_its_level() -> None:
    parts = table(fed=by_width(0.0, level=3.0), attended=by_width(1.0, level=2.0))
    prices = prices_of(parts, SHAPE, [5] * 8, Workload(1, "cpu", 1), "p50")
    assert prices.blocks.slope == 0
    assert prices.blocks.level / prices.heads.level == pytest.approx(3 / (2 + 1), rel=1e-2)
    assert prices.heads.slope / prices.heads.level == pytest.approx(1 / 3, rel=1e-2)


def test_long_requests_decide_about_the_95th_percentile() -> None:
    # Attention between the projections grows with the longest text alone.
    few = Surface.through({0: [(0, 0), (99, 0)], 4: [(0, 0.0), (9, 0.0), (10, 0.1), (99, 9.0)]})
    parts, lengths = table(few__none=few, fed=by_width(0.001)), [5] * 90 + [90] * 10
    mean, p95 = (
        prices_of(parts, SHAPE, lengths, Workload(1, "cpu", 1), each) for each in ("mean", "p95")
    )
    heads = [each.heads.of(4) / each.blocks.of(4) for each in (mean, p95)]
    assert heads[1] > heads[0]


def test_a_model_of_one_layer_or_with_nothing_left_has_prices() -> None:
    parts = table(fed=by_width(0.01), asked__last=by_width(0.1))
    for shape in (EncoderShape(8, 2, (4,), (64,)), EncoderShape(8, 2, (0, 0), (0, 0))):
        prices_of(parts, shape, [3, 4], Workload(1, "cpu", 1), "mean")
