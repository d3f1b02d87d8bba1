"""What one timing answers of all that is asked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from trimtab_workers.latency.asked import Asked, in_order, timings_of
from trimtab_workers.latency.bench import BenchResult, BenchSettings
from trimtab_workers.latency.summary import summarise
from trimtab_workers.latency.workload import Workload

ONE, MANY = Workload(1), Workload(32)
TIMES = np.linspace(4.0, 6.0, 80)[:, None] * np.ones(4)


def result() -> BenchResult:
    """A model that takes half of what the dense one does, at twice the speed it had."""
    timed = summarise(0.5 * TIMES, TIMES, "p50", reference_p50_ms=2.5)
    return BenchResult(timed, {}, summarise(0.5 * TIMES, TIMES, "p50", is_relative=True))


def test_figures_of_the_same_requests_come_from_one_timing() -> None:
    asked = [Asked("p95", ONE), Asked("mean", MANY, True), Asked("p50", ONE)]
    first, second = timings_of(asked)
    assert (first.places, second.places) == ((0, 2), (1,))
    assert first.asked == (asked[0], asked[2])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([Asked("p95", ONE)], ("p95", (), False, False)),
        ([Asked("p95", ONE, True)], ("p95", (), True, False)),
        ([Asked("p95", ONE, True), Asked("p50", ONE, True)], ("p95", ("p50",), True, False)),
        ([Asked("p50", ONE), Asked("p95", ONE, True)], ("p50", ("p95",), False, True)),
        ([Asked("p50", ONE), Asked("p50", ONE, True)], ("p50", (), False, True)),
    ],
)
def test_a_job_is_told_which_figures_must_be_sure(asked: Any, told: Any) -> None:
    (timing,) = timings_of(asked)
    said = timing.settings()
    assert said.pop("workload") == ONE
    assert tuple(said.values()) == told


def test_times_and_ratios_are_taken_from_the_summary_that_is_about_them() -> None:
    (timing,) = timings_of([Asked("p50", ONE), Asked("p95", ONE, True)])
    time, ratio = timing.figures(result())
    assert (time.statistic, ratio.statistic) == ("p50", "p95")
    assert (time.speed, ratio.speed) == (0.5, 1.0)
    assert time.value == pytest.approx(1.25) and ratio.ratio == pytest.approx(0.5)
    assert ratio.value == pytest.approx(0.5 * np.quantile(TIMES, 0.95), rel=0.02)
    (alone,) = timings_of([Asked("p95", ONE, True)])
    assert alone.figures(BenchResult(result().latency, {}))[0].speed == 0.5


def test_what_was_found_comes_in_the_order_in_which_it_was_asked_for() -> None:
    timings = timings_of([Asked("p95", ONE), Asked("mean", MANY), Asked("p50", ONE)])
    assert in_order(timings, [["a", "c"], ["b"]]) == ["a", "b", "c"]


def test_settings_and_results_survive_json() -> None:
    settings = BenchSettings("p50", also=("p95",), is_both=True)
    assert BenchSettings.from_plain(json.loads(json.dumps(settings.to_plain()))) == settings
    found = result()
    assert BenchResult.from_plain(json.loads(json.dumps(found.to_plain()))) == found
