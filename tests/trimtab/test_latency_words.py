"""Latencies and budgets on them, as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab._latency_words import (
    and_latency,
    bound_text,
    bounds_text,
    budget_text,
    latency_text,
    ms,
    shown_latency,
    texts_text,
    workload_text,
)

LATENCY: dict[str, Any] = {
    "statistic": "p95",
    "value": 6.1,
    "low": 5.9,
    "high": 6.4,
    "p50": 5.0,
    "p95": 6.1,
    "batch_size": 1,
    "device": "cpu",
    "verdict": "stable",
}
PREDICTED = {"value": None, "verdict": "predicted", "predicted": {"p95": 6.0}}


def test_a_latency_is_shown_without_what_only_the_search_needs() -> None:
    kept = {**LATENCY, "tries": 1, "predicted": {"p95": 6.0}, "threads": 2, "mean": 5.2}
    assert shown_latency(kept) == {**LATENCY, "threads": 2, "mean": 5.2}
    assert shown_latency({"value": 1.0}) == {**dict.fromkeys(LATENCY), "value": 1.0}


@pytest.mark.parametrize("none", [None, {}, PREDICTED])
def test_what_was_not_timed_is_not_shown(none: Any) -> None:
    assert (shown_latency(none), latency_text(none), and_latency(none)) == (None, "–", "")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "6.1 ms [5.9, 6.4] p95"),
        ({"low": None}, "6.1 ms p95"),
        ({"verdict": "unstable"}, "6.1 ms [5.9, 6.4] p95, unstable"),
        ({"statistic": None}, "6.1 ms [5.9, 6.4]"),
    ],
)
def test_a_latency_in_words(changes: Any, text: str) -> None:
    assert latency_text({**LATENCY, **changes}) == text
    assert and_latency({**LATENCY, **changes}) == f", {text}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123 ms"), (6.1, "6.1 ms"), (123.4, "123 ms"), (999.6, "1,000 ms")]
    + [(12345.6, "12,346 ms")],
)
def test_times_have_three_figures(value: float, text: str) -> None:
    assert ms(value) == text


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        ({"batch_size": 1, "device": "cpu", "threads": 2}, "at batch 1 on cpu, 2 threads"),
        ({"batch_size": 8, "device": "cuda", "threads": None}, "at batch 8 on cuda"),
        ({"batch_size": 1, "device": "cpu", "threads": 1}, "at batch 1 on cpu, 1 thread"),
        ({"batch_size": 1, "device": "auto"}, "at batch 1 on the workers' device"),
    ],
)
def test_a_workload_in_words(workload: Any, text: str) -> None:
    assert workload_text(workload) == text


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        (None, "texts of the data"),
        ([16, 64, 32], "texts of 16 to 64 tokens"),
        ((16,), "texts of 16 tokens"),
    ],
)
def test_texts_in_words(lengths: Any, text: str) -> None:
    assert texts_text({"lengths": lengths}) == text


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({"p95": "8 ms"}, "p95 ≤ 8 ms"),
        ({"p50": "50%"}, "p50 ≤ 50% of the baseline's"),
        ({"mean": "0.5 ms"}, "mean ≤ 0.5 ms"),
        ({"throughput": "200/s"}, "throughput ≥ 200/s"),
        ({"throughput": "200%"}, "throughput ≥ 200% of the baseline's"),
    ],
)
def test_a_bound_in_words(budget: Any, text: str) -> None:
    assert bound_text(budget) == text
    assert budget_text({"latency": budget}) == f"latency {text} at batch 1"
    both = {"flops": "40%", "latency": {**budget, "batch_size": 8}}
    assert budget_text(both) == f"FLOPs 40%, latency {text} at batch 8"
    assert budget_text({"flops": "40%"}) == "FLOPs 40%"


MEAN = {**LATENCY, "statistic": "mean", "value": 110.0, "low": 100.0, "high": 120.0}


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({**MEAN, "value": 5.2, "low": 5.1, "high": 5.3}, "5.2 ms [5.1, 5.3] mean"),
        ({**MEAN, "batch_size": 32}, "110 ms [100, 120] mean at batch 32"),
        ({**MEAN, "lengths": [16, 64]}, "110 ms [100, 120] mean at batch 1 of 16 to 64 tokens"),
        ({**MEAN, "verdict": "unstable"}, "110 ms [100, 120] mean, unstable"),
        ({**PREDICTED, "statistic": "mean", "batch_size": 32}, "– mean at batch 32"),
    ],
)
def test_several_latencies_in_words(other: Any, text: str) -> None:
    where = " at batch 1" if "at batch" in text else ""
    both = {**LATENCY, "others": [other]}
    assert latency_text(both) == f"6.1 ms [5.9, 6.4] p95{where} and {text}"


@pytest.mark.parametrize(
    ("changes", "limits", "holds"),
    [
        ({}, (120.0,), True),
        ({}, (119.0,), False),
        ({"verdict": "unstable"}, (120.0,), None),
        ({}, (), None),
        ({"value": None, "high": None, "verdict": "predicted"}, (120.0,), None),
    ],
)
def test_each_further_limit_is_shown_with_whether_it_holds(
    changes: Any, limits: Any, holds: bool | None
) -> None:
    other = {**MEAN, "tries": 1, **changes}
    shown = shown_latency({**LATENCY, "others": [other]}, limits)
    assert shown is not None and list(shown) == [*LATENCY, "others"]
    (found,) = shown["others"]
    assert list(found) == [*LATENCY, "max_ms", "holds"]
    assert (found["holds"], found["max_ms"]) == (holds, limits[0] if limits else None)


def test_several_bounds_in_words() -> None:
    both = {"p95": "50%", "p50": "4 ms", "batch_size": 1}
    many = {"throughput": "200%", "batch_size": 32}
    assert bounds_text(both) == "p50 ≤ 4 ms and p95 ≤ 50% of the baseline's"
    said = "p50 ≤ 4 ms and p95 ≤ 50% of the baseline's at batch 1"
    more = "throughput ≥ 200% of the baseline's at batch 32"
    assert bounds_text([both, many]) == f"{said}; {more}"
    assert budget_text({"latency": [both, many]}) == f"latency {said}, latency {more}"


def test_threads_and_lengths_of_bounds_are_told_where_they_differ() -> None:
    one, four = {"p95": "8 ms", "threads": 1}, {"p95": "4 ms", "threads": 4}
    assert bounds_text([one, four]) == (
        "p95 ≤ 8 ms at batch 1 on 1 thread; p95 ≤ 4 ms at batch 1 on 4 threads"
    )
    every = {"mean": "9 ms", "threads": None}
    assert bounds_text([one, every]) == (
        "p95 ≤ 8 ms at batch 1 on 1 thread; mean ≤ 9 ms at batch 1"
    )
    long = {**one, "lengths": [64]}
    assert bounds_text([one, long]) == "p95 ≤ 8 ms at batch 1; p95 ≤ 8 ms at batch 1 of 64 tokens"
    same = {**one, "batch_size": 2}
    assert bounds_text([one, same]) == "p95 ≤ 8 ms at batch 1; p95 ≤ 8 ms at batch 2"
    assert budget_text({"latency": one}) == "latency p95 ≤ 8 ms at batch 1"


def test_threads_of_latencies_are_told_where_they_differ() -> None:
    one, four = ({**LATENCY, "asked_threads": n, "threads": n} for n in (1, 4))
    assert latency_text({**one, "others": [four]}) == (
        "6.1 ms [5.9, 6.4] p95 at batch 1 on 1 thread and "
        "6.1 ms [5.9, 6.4] p95 at batch 1 on 4 threads"
    )
    # As many as there were, whoever asked for them: they are of the same requests.
    same = {**LATENCY, "threads": 4, "statistic": "p50"}
    assert latency_text({**LATENCY, "others": [same]}) == (
        "6.1 ms [5.9, 6.4] p95 and 6.1 ms [5.9, 6.4] p50"
    )


def test_what_only_a_later_limit_was_timed_for_is_told() -> None:
    untimed = {**PREDICTED, "statistic": "p95", "batch_size": 1}
    said = "– p95 at batch 1 and 6.1 ms [5.9, 6.4] p95 at batch 8"
    assert latency_text({**untimed, "others": [{**LATENCY, "batch_size": 8}]}) == said
