"""Statistics of known times, their intervals, and when they are not to be trusted."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from trimtab_workers.latency._statistics import drawn_counts, drawn_statistics, noise_of
from trimtab_workers.latency.summary import Latency, summarise
from trimtab_workers.latency.workload import STATISTICS, Statistic

N, ROUNDS = 100, 4


def steady(factor: float = 1.0, n: int = N, rounds: int = ROUNDS) -> Any:
    """Request i takes i + 1 ms in every round."""
    return np.tile(np.arange(1.0, n + 1)[:, None] * factor, (1, rounds))


@pytest.mark.parametrize(("statistic", "value"), [("p50", 50.5), ("p95", 95.05), ("mean", 50.5)])
def test_known_times_have_known_statistics(statistic: Statistic, value: float) -> None:
    once = steady(0.5, rounds=3), steady(1.0, rounds=3)
    latency = summarise(*once, statistic, batch_size=2, device="cpu", threads=3)
    expected = float(np.quantile(once[0], 0.95)) if statistic == "p95" else value * 0.5
    assert latency.value == pytest.approx(expected)
    assert latency.ratio == latency.ratio_low == latency.ratio_high == pytest.approx(0.5)
    assert latency.baseline == pytest.approx(2 * expected)
    assert latency.low < latency.value < latency.high
    assert (latency.batch_size, latency.threads) == (2, 3)
    assert (latency.n_requests, latency.n_rounds) == (N, 3)
    assert (latency.verdict, latency.reason, latency.speed) == ("stable", None, 1.0)


def test_draws_are_those_of_requests_with_all_their_rounds(seed: int) -> None:
    random = np.random.default_rng(seed)
    ms = random.lognormal(size=(17, 5))
    counts = drawn_counts(17, 40, seed)
    drawn = drawn_statistics(ms, counts)
    for place, taken in enumerate(counts):
        times = np.repeat(ms, taken, axis=0)
        assert drawn["p50"][place] == pytest.approx(np.quantile(times, 0.5))
        assert drawn["p95"][place] == pytest.approx(np.quantile(times, 0.95))
        assert drawn["mean"][place] == pytest.approx(times.mean())


def test_more_rounds_of_the_same_texts_do_not_make_the_texts_more_certain() -> None:
    few, many = (summarise(steady(rounds=r), steady(rounds=r), "mean") for r in (3, 30))
    assert (few.low, few.high) == pytest.approx((many.low, many.high))


def test_intervals_hold_the_true_value_about_as_often_as_they_say(seed: int) -> None:
    random, hits, tries = np.random.default_rng(seed), 0, 150
    for _ in range(tries):
        ms = np.repeat(random.lognormal(sigma=0.4, size=(128, 1)), 3, axis=1)
        latency = summarise(ms, ms, "p50")
        hits += latency.low <= 1.0 <= latency.high
    # 95 % of 150 is 142; fewer than 129 would be five standard deviations away.
    assert hits >= 129


def test_pairing_takes_the_texts_out_of_the_ratio(seed: int) -> None:
    random = np.random.default_rng(seed)
    texts = random.lognormal(sigma=0.5, size=(N, 1))
    baseline = texts * random.lognormal(sigma=0.01, size=(N, ROUNDS))
    ours = 0.7 * texts * random.lognormal(sigma=0.01, size=(N, ROUNDS))
    latency = summarise(ours, baseline, "mean")
    relative = (latency.high - latency.low) / latency.value
    assert latency.ratio_high - latency.ratio_low < relative / 10
    assert latency.ratio_low < 0.7 * 1.01 and latency.ratio_high > 0.7 * 0.99


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_latency_can_be_restated_and_survives_json(statistic: Statistic) -> None:
    times = steady(0.5), steady() ** 1.1
    latency = summarise(*times, "p50", waited=0.0)
    assert latency.with_statistic(statistic) == summarise(*times, statistic, waited=0.0)
    assert latency.with_statistic(statistic).with_statistic("p50") == latency
    plain = json.loads(json.dumps(latency.to_plain()))
    assert Latency.from_plain({**plain, "tries": 2}) == latency


def test_the_same_times_give_the_same_latency() -> None:
    assert summarise(steady(), steady(2), "p95") == summarise(steady(), steady(2), "p95")


def test_a_reference_states_times_at_its_speed() -> None:
    """The machine is a tenth slower than it was, for both."""
    latency = summarise(steady(0.55), steady(1.1), "mean", reference_p50_ms=50.5)
    assert latency.speed == pytest.approx(1 / 1.1)
    assert latency.value == pytest.approx(0.5 * 50.5)
    assert latency.baseline == pytest.approx(50.5)
    assert latency.ratio == pytest.approx(0.5)
    assert latency.verdict == "stable"


def rising(factor: float, rounds: int = 6) -> Any:
    """The later half of the rounds takes that much longer."""
    pace = np.where(np.arange(rounds) < rounds // 2, 1.0, factor)
    return steady(rounds=rounds) * pace


def jumping(share: float, rounds: int = 4) -> Any:
    """Rounds go up and down around the mean, with no drift."""
    return steady(rounds=rounds) * (1 + share * np.array([1, -1] * (rounds // 2)))


@pytest.mark.parametrize(
    ("times", "options", "reason"),
    [
        ((steady(n=71), steady(n=71)), {"statistic": "p95"}, "p95 needs at least 72 requests.*71"),
        ((steady(n=19), steady(n=19)), {}, "p50 needs at least 20 requests.*19"),
        ((steady(rounds=2), steady(rounds=2)), {}, "at least 3 rounds are needed.*2"),
        ((steady(), steady()), {"waited": 0.31}, "other work.*31% of the time"),
        ((steady(), steady(1.2)), {"reference_p50_ms": 50.5}, r"another speed.*60.6.*50.5.*\+20%"),
        ((steady(), steady(0.8)), {"reference_p50_ms": 50.5}, r"another speed.*-20%"),
        ((rising(1.2), rising(1.0)), {}, r"the model's p50 changed by \+20%"),
        ((rising(1.0), rising(0.8)), {}, "the baseline's p50 changed by -20%"),
        ((jumping(0.2), jumping(0)), {}, "the rounds differ: they tell the model's p50.*37%"),
        ((jumping(0.2), jumping(0)), {"reference_p50_ms": 50.5}, "the ratio of p50"),
    ],
)
def test_what_cannot_be_trusted_is_unstable_for_a_reason(
    times: tuple[Any, Any], options: dict[str, Any], reason: str
) -> None:
    latency = summarise(*times, **{"statistic": "p50", **options})
    assert latency.verdict == "unstable"
    assert latency.reason is not None
    assert re.search(reason, latency.reason), latency.reason


@pytest.mark.parametrize(
    ("times", "options"),
    [
        ((steady(n=72), steady(n=72)), {"statistic": "p95"}),
        ((steady(n=20), steady(n=20)), {}),
        ((steady(), steady()), {"waited": 0.04}),
        ((steady(), steady(1.14)), {"reference_p50_ms": 50.5}),
        ((rising(1.09), rising(1.09)), {}),
        ((jumping(0.05), jumping(0.05)), {}),
        # a change of pace that both share leaves the ratio as it is
        ((rising(1.2), rising(1.2)), {"reference_p50_ms": 55.0}),
        ((jumping(0.3), jumping(0.3)), {"reference_p50_ms": 50.5}),
    ],
)
def test_what_is_within_bounds_is_stable(times: tuple[Any, Any], options: dict[str, Any]) -> None:
    latency = summarise(*times, **{"statistic": "p50", **options})
    assert (latency.verdict, latency.reason) == ("stable", None)


def test_a_verdict_belongs_to_its_statistic() -> None:
    latency = summarise(steady(n=50), steady(n=50), "p50")
    assert latency.verdict == "stable"
    assert latency.with_statistic("p95").verdict == "unstable"


def test_noise_is_half_of_students_interval() -> None:
    # mean 2, standard deviation 1, t with two degrees of freedom 4.303
    assert noise_of(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.303 / np.sqrt(3) / 2)


@pytest.mark.parametrize(
    ("ours", "baseline", "message"),
    [
        (steady(), steady(rounds=3), r"one shape, but got \(100, 4\) and \(100, 3\)"),
        (steady()[:, 0], steady()[:, 0], "two tables"),
        (steady()[:0], steady()[:0], "two tables"),
        (steady() - 1, steady(), "positive"),
        (steady() * np.nan, steady(), "positive"),
    ],
)
def test_tables_that_are_none_are_refused(ours: Any, baseline: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(ours, baseline, "p50")


def test_a_relative_latency_is_a_ratio_of_what_the_baseline_took_once() -> None:
    """However wide the texts differ, a model that takes half takes half."""
    texts = np.linspace(1.0, 9.0, 80)[:, None] * np.ones(6)
    once = summarise(texts, texts, "p95")
    later = summarise(0.5 * 1.1 * texts, 1.1 * texts, "p95", reference_p50_ms=once.p50)
    assert later.high > 1.03 * later.value, "other texts would take another time"
    stated = later.relative_to(once)
    for name in ("p50", "p95", "mean"):
        one, dense = stated.with_statistic(name), once.with_statistic(name)
        assert one.value == pytest.approx(0.5 * dense.value)
        assert (one.low, one.high) == (pytest.approx(one.value), pytest.approx(one.value))
        assert (one.baseline, one.ratio) == (pytest.approx(dense.value), pytest.approx(0.5))
        assert getattr(stated, name) == one.value
        assert stated.intervals[name] == [one.low, one.high]
    assert Latency.from_plain(stated.to_plain()) == stated


def test_a_ratio_may_be_trusted_on_a_machine_that_changes_its_pace() -> None:
    pace = np.linspace(1.0, 1.6, 8)
    dense = steady(rounds=8) * pace
    plain = summarise(0.5 * dense, dense, "p50")
    relative = summarise(0.5 * dense, dense, "p50", is_relative=True)
    assert (plain.verdict, relative.verdict) == ("unstable", "stable")
    assert plain.reason is not None and "changed by" in plain.reason
    assert relative.ratio == pytest.approx(0.5)
    faster = 0.5 * dense / pace  # ours alone changes
    assert summarise(faster, dense, "p50", is_relative=True).verdict == "unstable"
