"""Predictions from made-up tables, whose times are known numbers of each thing that is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.elastic import rows_trimtab
from trimtab_strategies.elastic.rows_trimtab import grouped
from trimtab_strategies.outcomes import NO_EXITS, Pricing
from trimtab_strategies.records import Records
from trimtab_workers.latency import _adding
from trimtab_workers.latency._adding import request_ms
from trimtab_workers.latency.predict import predict, predict_many, share_within
from trimtab_workers.latency.table import LatencyTable, Surface
from trimtab_workers.latency.workload import Workload

EXITS = {"kind": "linear", "read": "first", "width": 1}


def line(slope: float, start: float = 0.0) -> Surface:
    """The same straight line at every width."""
    return Surface.through({0: [(0, start), (1000, start + 1000 * slope)]})


def by_width(slope: float) -> Surface:
    """``slope`` for each row and unit of width."""
    return Surface.through({w: [(0, 0.0), (1000, 1000 * slope * w)] for w in (0, 100)})


def made_table(batch_size: int = 1, **changed: Surface) -> LatencyTable:
    """A table in which all takes no time but what is named."""
    names = ["front", "head", "leave", "attended", "fed", "asked/none", "asked/last"]
    names += [f"{n}/{kind}" for n in ("few", "many") for kind in ("none", "last", "ltp", "acc")]
    parts = {name: line(0.0) for name in [*names, "exit/linear/first"]}
    named = {name.replace("__", "/"): part for name, part in changed.items()}
    return LatencyTable("cpu", "float32", 1, batch_size, 8, 2, 4e6, False, parts | named)


def made_records(lengths: list[int], kept: list[list[int]], sure: Any = None) -> Records:
    """Records of an exit behind the first layer, sure of those that are marked."""
    n = len(lengths)
    certain = np.zeros(n, dtype=bool) if sure is None else np.array(sure)
    said = np.where(certain[:, None], [9.0, -9.0], [0.0, 0.0])[:, None, :]
    zeros = np.zeros(n, dtype=np.int64)
    return Records(np.array(lengths), np.array(kept), (0,), said, np.zeros((n, 2)), zeros)


def priced(heads: tuple[int, ...], filters: tuple[int, ...], rule: Any = None) -> Pricing:
    placement = "acc" if rule is not None and rule["kind"] == "share" else "ltp"
    return Pricing(EncoderShape(8, 2, heads, filters), placement, EXITS, rule)


def of_texts(
    table: LatencyTable, pricing: Pricing, records: Records, knobs: Mapping[str, Any]
) -> list[float]:
    """Single texts are predicted each once; three quantities of two texts tell both times."""
    found = predict(table, pricing, records, knobs, Workload())
    return sorted(2 * found["mean"] - extreme for extreme in _ends(found))


def _ends(found: Mapping[str, float]) -> tuple[float, float]:
    # The 95th percentile of two lies 0.95 of the way from the lower to the higher.
    half = (found["p95"] - found["mean"]) / 0.45
    return found["mean"] - half / 2, found["mean"] + half / 2


def test_parts_are_added_up_on_the_rows_that_are_there() -> None:
    table = made_table(
        front=line(1.0, 5.0), head=line(7.0), asked__none=by_width(1.0), fed=by_width(10.0)
    )
    records = made_records([10, 20], [[4, 4, 4], [20, 8, 8]])
    rule = {"kind": "threshold", "normaliser": "fixed", "reference_length": 128}
    got = of_texts(table, priced((1, 2, 3), (4, 5, 6), rule), records, {})
    # front, projections of two layers, feed-forward of three (one row in the last), head
    first = 15 + (10 * 1 + 4 * 2) + 10 * (4 * 4 + 4 * 5 + 1 * 6) + 7
    second = 25 + (20 * 1 + 20 * 2) + 10 * (20 * 4 + 8 * 5 + 1 * 6) + 7
    np.testing.assert_allclose(got, [first, second])


@pytest.mark.parametrize(("kind", "name"), [("threshold", "few__ltp"), ("share", "few__acc")])
def test_rules_cost_where_they_act(kind: str, name: str) -> None:
    rule = {"kind": kind} | ({"shares": [1.0, 0.5, 0.5, 0.5]} if kind == "share" else {})
    records = made_records([10, 10], [[5, 5, 5, 5]] * 2)
    shape = priced((1, 0, 2, 2), (1, 1, 1, 1), rule)
    found = predict(made_table(**{name: line(1.0)}), shape, records, {}, Workload())
    # no heads in the second layer, and the last lets nothing go; a share of 1 keeps all
    assert found["mean"] == pytest.approx(5 if kind == "share" else 10 + 5)
    if kind == "share":
        settings = [{"alpha_sc": 0.9}, {"alpha_sc": 2.0}]
        table = made_table(**{name: line(1.0)})
        each = predict_many(table, shape, records, settings, Workload())
        assert [one["mean"] for one in each] == pytest.approx([15, 0])


def test_shares_act_before_the_output_projection_and_thresholds_behind_it() -> None:
    records, table = made_records([10, 10], [[5, 5]] * 2), made_table(attended=line(1.0))
    for kind, rows in (("threshold", 10), ("share", 5)):
        rule = {"kind": kind} | ({"shares": [0.5, 0.5]} if kind == "share" else {})
        found = predict(table, priced((1, 1), (1, 1), rule), records, {}, Workload())
        assert found["p50"] == pytest.approx(rows + 1)


def test_who_leaves_sees_no_more_layers_and_exits_are_paid_for_by_all() -> None:
    table = made_table(
        fed=line(1.0), exit__linear__first=line(0.0, 100.0), leave=line(0.0, 3.0), head=line(50.0)
    )
    records = made_records([10, 20], [[10, 10, 10], [20, 20, 20]], [True, False])
    shape = priced((1, 1, 1), (1, 1, 1))
    assert of_texts(table, shape, records, {}) == pytest.approx([10 + 10 + 1 + 50, 91])
    got = of_texts(table, shape, records, {"tau": 0.5})
    assert got == pytest.approx([10 + 103, 20 + 100 + 20 + 1 + 50])


def test_exits_that_are_not_used_cost_nothing() -> None:
    table = made_table(exit__linear__first=line(0.0, 100.0))
    records, shape = made_records([10], [[10, 10]], [True]), priced((1, 1), (1, 1))
    found = predict(table, shape, records, {"tau": 0.5, "exits": []}, Workload())
    assert found["mean"] == 0


def test_texts_of_a_request_are_added_up_while_they_are_there() -> None:
    table = made_table(2, fed=line(1.0))
    records = made_records([10, 10], [[10, 10, 10]] * 2, [True, False])
    # Every request is of both texts: 20 rows, then 10, then one first token.
    found = predict(table, priced((1,) * 3, (1,) * 3), records, {"tau": 0.5}, Workload(2))
    assert found == pytest.approx({"p50": 31.0, "p95": 31.0, "mean": 31.0})


def test_lengths_weigh_rows_by_the_nearest_length() -> None:
    table, shape = made_table(front=line(1.0)), priced((1, 1), (1, 1))
    records = made_records([10, 20, 40], [[10, 10], [20, 20], [40, 40]])
    workload = Workload(lengths=(12, 12, 12, 12, 12, 12, 12, 33))
    found = predict(table, shape, records, {}, workload)
    assert found["p50"] == 10 and found["p95"] == 40


def test_attention_is_grouped_as_the_packed_forward_groups_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    batch, heads = 9, 40
    few, many = line(1.0, 3.0), line(5.0, 4.0)
    table = made_table(batch, few__none=few, many__none=many, few__last=few, many__last=many)
    lengths = random.integers(1, 250, (30, batch))
    got = request_ms(table, [heads], [0], lengths)
    for ms, texts in zip(got, lengths, strict=True):
        ordered = sorted(texts.tolist(), reverse=True)
        expected = 0.0
        for first, last in grouped(ordered, heads * 2, "cpu"):
            longest = ordered[first]
            more = (many.of(0, longest) - few.of(0, longest)) / (batch - 2)
            expected += float(few.of(0, longest) + (last - first - 2) * more)
        assert math.isclose(ms, expected, rel_tol=1e-9)


def test_the_share_within_a_limit_is_found_and_none_where_nothing_is() -> None:
    table = made_table(front=line(0.0, 10.0), fed=by_width(0.01), asked__none=by_width(0.1))
    shape, texts = EncoderShape(8, 2, (4, 4), (40, 40)), [10, 10]
    # 10 + share * (10 rows * 0.1 * 4 + 10 rows and one * 0.01 * 40)
    for limit, share in ((10 + 4.2, 0.5), (10.0, 0.0), (18.4, 1.0), (99.0, 1.0)):
        found = share_within(table, shape, texts, Workload(), "p95", limit)
        assert found == pytest.approx(share, abs=1e-4)
    assert share_within(table, shape, texts, Workload(), "p95", 9.9) is None


def test_a_table_of_other_requests_is_refused() -> None:
    records, pricing = made_records([10], [[10, 10]]), priced((1, 1), (1, 1))
    with pytest.raises(ValueError, match="batch_size must be 1, .* got 4"):
        predict(made_table(), pricing, records, {}, Workload(4))
    other = Pricing(EncoderShape(16, 2, (1, 1), (1, 1)), "ltp", NO_EXITS)
    with pytest.raises(ValueError, match="hidden_size must be 8"):
        predict(made_table(), other, records, {}, Workload())


def test_rows_move_together_where_the_packed_forward_moves_them() -> None:
    assert _adding.PAYS_FROM == rows_trimtab.PAYS_FROM
    rule, table = {"kind": "threshold"}, made_table(fed=line(1.0))
    shape = priced((1, 1), (1, 1), rule)
    for kept, rows in ((990, 1000), (980, 980)):
        records = made_records([1000], [[kept, kept]])
        assert predict(table, shape, records, {}, Workload())["mean"] == pytest.approx(rows + 1)
