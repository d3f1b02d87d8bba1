"""Quantities: what reads, what is refused with which hint, and that all of it prints back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trimtab.spec import (
    Drop,
    Duration,
    Flops,
    Latency,
    Throughput,
    UnitError,
    parse_drop_option,
    parse_flops_option,
    parse_latency_option,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("40%", Flops(ratio=0.4)),
        (" 40 % ", Flops(ratio=0.4)),
        ("7%", Flops(ratio=0.07)),
        ("0.5%", Flops(ratio=0.005)),
        ("1.2 GFLOPs", Flops(absolute=1.2e9)),
        ("1200 MFLOPs", Flops(absolute=1.2e9)),
        ("1200mflops", Flops(absolute=1.2e9)),
        ("3 kFLOP", Flops(absolute=3000.0)),
        ("2 tflops", Flops(absolute=2e12)),
        ("1.2e9 FLOPs", Flops(absolute=1.2e9)),
    ],
)
def test_flops_reads(text: str, value: Flops) -> None:
    assert Flops.parse(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8 ms", 0.008),
        ("90 s", 90.0),
        ("30 min", 1800.0),
        ("2 h", 7200.0),
        ("1.5h", 5400.0),
        ("2 minutes", 120.0),
    ],
)
def test_duration_reads(text: str, value: float) -> None:
    assert Duration.parse(text) == Duration(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 pt", Drop(absolute=0.01)),
        ("0.5pts", Drop(absolute=0.005)),
        ("1%", Drop(relative=0.01)),
        ("0 pt", Drop(absolute=0.0)),
    ],
)
def test_drop_reads(text: str, value: Drop) -> None:
    assert Drop.parse(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("200/s", Throughput(per_second=200.0)),
        ("200 / s", Throughput(per_second=200.0)),
        ("200 samples/s", Throughput(per_second=200.0)),
        ("0.5 texts/second", Throughput(per_second=0.5)),
        ("1 Text / SEC", Throughput(per_second=1.0)),
        ("200%", Throughput(ratio=2.0)),
        ("100%", Throughput(ratio=1.0)),
        ("2x", Throughput(ratio=2.0)),
        ("1.5 X", Throughput(ratio=1.5)),
    ],
)
def test_throughput_reads(text: str, value: Throughput) -> None:
    assert Throughput.parse(text) == value


@pytest.mark.parametrize("text", ["/s", "200/", "200 s", "200 tokens/s", "200/h", "2 xx", "2//s"])
def test_throughput_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UnitError, match="^must be texts a second"):
        Throughput.parse(text)


def test_throughput_is_a_limit_on_the_mean_time_of_a_request() -> None:
    assert Throughput.parse("200/s").limit(99.0, 1) == 5.0
    assert Throughput.parse("200/s").limit(99.0, 32) == 160.0
    assert Throughput.parse("200%").limit(8.0, 1) == Throughput.parse("2x").limit(8.0, 32) == 4.0


def test_limits_follow_the_baseline() -> None:
    assert Flops.parse("40%").limit(1000.0) == 400.0
    assert Flops.parse("1 MFLOPs").limit(1000.0) == 1e6
    assert Drop.parse("1 pt").limit(0.5) == 0.01
    assert Drop.parse("1%").limit(0.5) == 0.005
    assert Latency.parse("50%").limit(8.0) == 4.0
    assert Latency.parse("0.5 s").limit(8.0) == 500.0


@pytest.mark.parametrize(
    ("kind", "value", "hint"),
    [
        (Flops, 0.4, "write `40%` for a share of the baseline"),
        (Flops, "0.4", "write `40%` for a share of the baseline"),
        (Flops, 40, "write `40%` or `40 GFLOPs`"),
        (Flops, 2_500_000, "write `2.5 MFLOPs`"),
        (Flops, "1.2 GMACs", "one MAC is two FLOPs: write `2.4 GFLOPs`"),
        (Duration, 30, "write `30 s` or `30 min`"),
        (Drop, 0.01, "write `1 pt` for 0.01 of the metric"),
        (Drop, 2, "write `2 pt` for points of the metric or `2%` of its value"),
        (Latency, 8, "write `8 ms`"),
        (
            Throughput,
            200,
            "write `200/s` for texts a second, or `2x` for twice the baseline's",
        ),
    ],
)
def test_bare_number_is_refused_with_a_hint_for_that_number(
    kind: Any, value: Any, hint: str
) -> None:
    with pytest.raises(UnitError) as caught:
        kind.parse(value)
    assert caught.value.hint == hint


@pytest.mark.parametrize("kind", [Flops, Duration, Drop, Latency, Throughput])
@pytest.mark.parametrize(
    "value",
    [None, True, "", "%", "many", "-3%", "1 2 %", "1e999 s", "1,2 GFLOPs", "3 parsec", [], {}]
    + ["9" * 500 + "%", float("nan"), float("inf"), "٣%", "1 %%", "0x10 %"],
)
def test_nonsense_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(UnitError, match="^must "):
        kind.parse(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Flops, "0%"), (Flops, "100.1%"), (Flops, "0 FLOPs"), (Drop, "101 pt"), (Drop, "101%")]
    + [(Latency, "0 ms"), (Latency, "101%"), (Duration, "1e9 h"), (Throughput, "0/s")]
    + [(Throughput, "99%"), (Throughput, "0.9x"), (Throughput, "1e99/s"), (Throughput, "1e5x")],
)
def test_quantity_out_of_range_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(UnitError):
        kind.parse(text)


def test_both_ways_or_neither_is_refused() -> None:
    for bad in ({}, {"ratio": 0.5, "absolute": 1e9}):
        with pytest.raises(UnitError, match="one way"):
            Flops(**bad)
    for bad in ({}, {"ratio": 2.0, "per_second": 200.0}):
        with pytest.raises(UnitError, match="one way"):
            Throughput(**bad)


@pytest.mark.parametrize("text", ["40%", "7%", "1.2 GFLOPs", "12.5 MFLOPs", "999 FLOPs"])
def test_flops_prints_as_written(text: str) -> None:
    assert str(Flops.parse(text)) == text


@pytest.mark.parametrize("text", ["8 ms", "90 s", "30 min", "2 h", "0 s", "1.5 s"])
def test_duration_prints_as_written(text: str) -> None:
    assert str(Duration.parse(text)) in (text, "1.5 min" if text == "90 s" else text)


def test_every_value_prints_back_to_itself(rng: random.Random) -> None:
    for _ in range(2_000):
        share = rng.choice((rng.random(), round(rng.random(), 3))) or 0.5
        for value in (
            Flops(ratio=max(share, 1e-9)),
            Flops(absolute=10 ** rng.uniform(0, 18)),
            Drop(absolute=share),
            Drop(relative=share),
            Duration(10 ** rng.uniform(-6, 8)),
            Duration(float(rng.randrange(10**6))),
            Latency(ms=10 ** rng.uniform(-3, 6)),
            Latency(ratio=max(share, 1e-9)),
            Throughput(per_second=10 ** rng.uniform(-3, 9)),
            Throughput(ratio=1 + share),
        ):
            assert type(value).parse(str(value)) == value, str(value)


def test_options_give_bare_numbers_a_meaning() -> None:
    assert parse_flops_option("0.4") == parse_flops_option(0.4) == Flops(ratio=0.4)
    assert parse_flops_option("40%") == Flops(ratio=0.4)
    assert parse_flops_option("1.2 GFLOPs") == Flops(absolute=1.2e9)
    assert parse_flops_option(1) == Flops(ratio=1.0)
    assert parse_drop_option("0.01") == parse_drop_option("1pt") == Drop(absolute=0.01)
    assert parse_drop_option("1%") == Drop(relative=0.01)
    assert parse_drop_option(0) == Drop(absolute=0.0)
    assert parse_latency_option("8") == parse_latency_option("8ms") == Latency(ms=8.0)
    assert parse_latency_option(8.5) == Latency(ms=8.5)
    assert parse_latency_option("50%") == Latency(ratio=0.5)


def test_options_take_values_that_are_parsed_already() -> None:
    for parse, value in (
        (parse_flops_option, Flops(ratio=0.4)),
        (parse_drop_option, Drop(absolute=0.01)),
        (parse_latency_option, Latency(ms=8.0)),
    ):
        assert parse(value) is value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parse", "value", "words"),
    [
        (parse_flops_option, "40", "write `40%`"),
        (parse_flops_option, "0", "ratio in"),
        (parse_drop_option, "1", "write `1 pt`"),
        (parse_drop_option, "-0.01", "metric's units"),
        (parse_latency_option, "0", "positive"),
        (parse_latency_option, "fast", "must be a latency"),
        (parse_flops_option, None, "must be FLOPs"),
        (parse_drop_option, float("nan"), "must be a drop"),
    ],
)
def test_option_out_of_range_is_refused(parse: Any, value: Any, words: str) -> None:
    with pytest.raises(UnitError, match=words):
        parse(value)
