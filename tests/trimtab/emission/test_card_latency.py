"""What the card says of time, from facts alone."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.emission._card_latency import HELD, latency_section
from trimtab.emission._distribution import distribution_of

BUDGET = {"latency": {"p95": "8 ms", "batch_size": 1}}


def _latency(value: float, **changes: Any) -> dict[str, Any]:
    known = {"statistic": "p95", "value": value, "low": value - 0.2, "high": value + 0.2}
    rest = {"p50": value - 1, "p95": value, "mean": value - 0.5, "verdict": "stable"}
    return {**known, **rest, "batch_size": 1, "device": "cpu", "threads": 2, **changes}


def _facts(point: Any, baseline: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "budget": BUDGET,
        "baseline": {"latency_ms": baseline},
        "point": {"latency": point},
        **more,
    }


@pytest.mark.parametrize("none", [None, {"value": None, "verdict": "predicted"}])
def test_nothing_is_said_where_nothing_was_timed(none: Any) -> None:
    assert latency_section({**_facts(none), "budget": {"flops": "40%"}}) == ""


def test_budget_workload_and_numbers_are_told() -> None:
    intervals = {"p50": [10.5, 11.5], "mean": [11.0, 12.0]}
    baseline = {**_latency(12.0), "intervals": intervals, "workload": {"lengths": [16, 64]}}
    said = latency_section(_facts(_latency(6.0), baseline))
    assert said.startswith("## Latency\n\nThe budget was p95 ≤ 8 ms. Time of a request at batch 1 ")
    assert "on cpu, 2 threads; texts of 16 to 64 tokens, one after the other" in said
    assert [line for line in said.splitlines() if line.startswith("|")] == [
        "|  | baseline | this model in the search |",
        "| --- | --- | --- |",
        "| p50 | 11 ms [10.5, 11.5] | 5 ms |",
        "| p95 | 12 ms [11.8, 12.2] | 6 ms [5.8, 6.2] |",
        "| mean | 11.5 ms [11, 12] | 5.5 ms |",
        "| verdict | stable | stable |",
    ]
    assert "fresh process" not in said


@pytest.mark.parametrize("holds", [True, False, None])
def test_the_checkpoint_as_it_lies_there_is_told(holds: bool | None) -> None:
    written = {**_latency(7.0), "holds": holds, "max_ms": 8.0}
    said = latency_section(_facts(_latency(6.0), _latency(12.0), delivered_latency=written))
    assert "| baseline | this model in the search | this checkpoint |" in said
    assert "| 7 ms [6.8, 7.2] |" in said
    assert said.endswith(f"{HELD[holds]}\n")


def test_the_spread_of_requests_is_drawn() -> None:
    times = {"ours": [[2.0]] * 9, "baseline": [[8.0]] * 9}
    written = {**_latency(7.0), "holds": True, "distribution": distribution_of(times)}
    said = latency_section(_facts(_latency(6.0), _latency(12.0), delivered_latency=written))
    assert "\n```text\nbaseline " in said and "\nthis checkpoint  █" in said
    assert "2 ms" in said and "8 ms\n```\n\nIt was timed again" in said


def test_what_is_not_stable_is_called_so() -> None:
    noisy = _latency(6.0, verdict="unstable", reason="others were at work", mean=None)
    said = latency_section(_facts(noisy, _latency(12.0)))
    assert "| verdict | stable | unstable: others were at work |" in said
    assert "| mean | 11.5 ms | – |" in said


def test_several_limits_have_a_table_for_each_kind_of_request() -> None:
    many = {"statistic": "mean", "mean": 99.0, "value": 99.0, "low": 90.0, "high": 110.0}
    both = {**_latency(6.0), "others": [_latency(5.0, statistic="p50", p50=5.0)]}
    both["others"].append({**_latency(120.0), **many, "batch_size": 32})
    budget = [
        {"p95": "8 ms", "p50": "6 ms", "batch_size": 1},
        {"throughput": "2x", "batch_size": 32},
    ]
    facts = {**_facts(both, both), "budget": {"latency": budget}}
    said = latency_section(facts)
    assert (
        "The budget was p50 ≤ 6 ms and p95 ≤ 8 ms at batch 1; throughput ≥ 2x at batch 32" in said
    )
    first, second = said.split("The same at batch 32 on cpu, 2 threads; texts of the data:")
    assert "| p50 | 5 ms [4.8, 5.2] | 5 ms [4.8, 5.2] |" in first
    assert "| p95 | 6 ms [5.8, 6.2] | 6 ms [5.8, 6.2] |" in first
    assert "| mean | 99 ms [90, 110] | 99 ms [90, 110] |" in second
    noisy = {**both, "others": [{**both["others"][0], "verdict": "unstable", "reason": "noise"}]}
    assert "| verdict | stable | unstable: noise |" in latency_section(
        {**facts, "point": {"latency": noisy}}
    )


def test_limits_that_differ_in_threads_have_tables_of_their_own() -> None:
    one = _latency(6.0, threads=1, asked_threads=1)
    four = _latency(5.0, threads=4, asked_threads=4)
    dense = {**one, "others": [four]}
    # What was not timed does not say how many threads it would have had.
    untimed = {"statistic": "p95", "value": None, "verdict": "predicted", "batch_size": 1}
    point = {**one, "others": [{**untimed, "asked_threads": 4}]}
    budget = [{"p95": "8 ms", "threads": 1}, {"p95": "4 ms", "threads": 4}]
    said = latency_section({**_facts(point, dense), "budget": {"latency": budget}})
    assert "p95 ≤ 8 ms at batch 1 on 1 thread; p95 ≤ 4 ms at batch 1 on 4 threads" in said
    first, second = said.split("The same at batch 1 on cpu, 4 threads; texts of the data:")
    assert "| p95 | 6 ms [5.8, 6.2] | 6 ms [5.8, 6.2] |" in first
    assert "| p95 | 5 ms [4.8, 5.2] | – |" in second
    assert "| verdict | stable | predicted |" in second


def test_what_is_known_of_a_later_limit_alone_is_told() -> None:
    untold = {"statistic": "p95", "value": None, "verdict": "unstable", "reason": "no memory"}
    many = _latency(9.0, batch_size=32)
    written = {**untold, "batch_size": 1, "holds": None, "others": [many]}
    both = {**_latency(6.0), "others": [many]}
    said = latency_section(_facts(both, both, delivered_latency=written))
    first, second = said.split("The same at batch 32")
    assert "| verdict | stable | stable | unstable: no memory |" in first
    assert "| p95 | 9 ms [8.8, 9.2] | 9 ms [8.8, 9.2] | 9 ms [8.8, 9.2] |" in second
