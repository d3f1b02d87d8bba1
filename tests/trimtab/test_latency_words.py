"""Latencies and budgets on them, as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab._latency_words import (
    and_latency,
    bound_text,
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
