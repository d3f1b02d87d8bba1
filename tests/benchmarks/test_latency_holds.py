"""How budgets are drawn, and how a promise is held against what was timed again."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.spec.units import Latency, Throughput

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def holds() -> Any:
    return importlib.import_module("latency_holds")


@pytest.fixture
def budgets() -> Any:
    return importlib.import_module("_random_budgets")


@pytest.fixture
def again() -> Any:
    return importlib.import_module("_timed_again")


def test_draws_are_of_every_kind_and_the_same_for_a_seed(budgets: Any) -> None:
    drawn = budgets.draw(200, 1)
    assert drawn == budgets.draw(200, 1) != budgets.draw(200, 2)
    assert drawn[:20] == budgets.draw(20, 1)
    assert {one.statistic for one in drawn} == set(budgets.STATISTICS)
    assert {(one.is_relative, one.batch_size) for one in drawn} == {
        (relative, size) for relative in (True, False) for size in (1, 8)
    }
    assert min(one.share for one in drawn) >= 0.4 and max(one.share for one in drawn) <= 0.9


@pytest.mark.parametrize("statistic", ["p50", "p95", "mean", "throughput"])
@pytest.mark.parametrize("dense_ms", [None, 12.3])
def test_the_limit_is_what_the_spec_makes_of_the_bound(
    statistic: str, dense_ms: float | None, budgets: Any
) -> None:
    drawn = budgets.Drawn(budgets.SHAPES[0], statistic, dense_ms is None, 8, 0.63)
    bound, limit = budgets.budget_of(drawn, dense_ms)
    baseline_ms = 1.0 if dense_ms is None else dense_ms
    if statistic == "throughput":
        meant = Throughput.parse(bound).limit(baseline_ms, 8)
    else:
        meant = Latency.parse(bound).limit(baseline_ms)
    assert limit == pytest.approx(meant)
    assert limit == pytest.approx(0.63 * baseline_ms, rel=0.01)


def test_only_a_promise_can_be_false(holds: Any) -> None:
    assert holds.outcome_of("met", True) == "met and confirmed"
    assert holds.outcome_of("met", False) == "met but missed"
    for said in ("unstable", "not met"):
        assert holds.outcome_of(said, False) == holds.outcome_of(said, True) == f"said {said}"
    assert holds.said_of(True, True) == "met"
    assert holds.said_of(True, None) == holds.said_of(False, None) == "unstable"
    assert holds.said_of(True, False) == holds.said_of(False, True) == "not met"


def test_what_is_met_goes_by_the_figure_and_not_by_its_interval(holds: Any) -> None:
    found = {"value": 10.5, "low": 9.8, "high": 11.2}
    missed = {"outcome": "met but missed", "outcome_by_low": "met and confirmed"}
    assert holds.outcomes_of("met", found, 10.0) == missed
    assert set(holds.outcomes_of("met", found, 10.5).values()) == {"met and confirmed"}
    assert set(holds.outcomes_of("met", found, 9.0).values()) == {"met but missed"}


def test_a_ratio_is_surer_than_a_time(again: Any) -> None:
    dense = np.random.default_rng(0).uniform(5, 15, size=(200, 1)) * np.ones(4)
    times = np.stack([0.6 * dense, dense])
    ratio = again._summed_up(times, "p95")
    assert ratio["value"] == pytest.approx(0.6)
    assert ratio["low"] == pytest.approx(0.6) and ratio["high"] == pytest.approx(0.6)
    alone = again._summed_up(times[:1], "mean")
    assert alone["low"] < alone["value"] < alone["high"]
    assert alone["value"] == pytest.approx(6.0, abs=0.3)


def test_models_take_turns_and_each_request_is_timed_once_a_round(again: Any) -> None:
    import torch

    asked: list[tuple[str, int]] = []

    def model(name: str) -> Any:
        return lambda input_ids, attention_mask: asked.append((name, int(input_ids[0, 0])))

    requests = again._requests([[n] for n in range(20)], 1)
    assert torch.equal(requests[3]["attention_mask"], torch.ones(1, 1, dtype=torch.long))
    taken = again._round([model("a"), model("b")], requests, 0)
    assert [len(ms) for ms in taken] == [20, 20]
    # 16 in a row after the first of them once more, then the other; who is first changes.
    order = [("a", range(16)), ("b", range(16)), ("b", range(16, 20)), ("a", range(16, 20))]
    expected = [(name, n) for name, some in order for n in (some[0], *some)]
    assert asked == expected


def test_requests_are_padded_to_their_own_longest(again: Any) -> None:
    (request,) = again._requests([[7, 8, 9], [7], [1]], 2)
    assert request["input_ids"].tolist() == [[7, 8, 9], [7, 0, 0]]
    assert request["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_the_neighbour_ends_with_its_study(holds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> Any:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with holds.neighbour():
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_texts_are_as_long_as_they_are_meant_to_be() -> None:
    small = importlib.import_module("_small_encoders")
    found = small.rows(300, 3)
    counts = [len(text.split()) for text, _ in found]
    assert small.LEAST_WORDS <= min(counts) < 25 and 90 < max(counts) <= small.MOST_WORDS
    assert len({label for _, label in found}) == 3
    assert found == small.rows(300, 3) != small.rows(300, 4)
