"""The section `budget.latency`: what it holds, what it limits, and how it is written out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trimtab.spec import Latency, Spec, SpecErrors, Throughput


def _budget(mapping: dict[str, Any], latency: Any, **more: Any) -> Any:
    spec = Spec.from_mapping({**mapping, "budget": {"latency": latency}, **more})
    assert spec.budget.latency is not None
    return spec.budget.latency


@pytest.mark.parametrize(
    ("given", "statistic", "bound"),
    [
        ({"p50": "8 ms"}, "p50", Latency(ms=8.0)),
        ({"p95": "0.5 s"}, "p95", Latency(ms=500.0)),
        ({"mean": "50%"}, "mean", Latency(ratio=0.5)),
        ({"throughput": "200/s"}, "mean", Throughput(per_second=200.0)),
        ({"throughput": "200%"}, "mean", Throughput(ratio=2.0)),
    ],
)
def test_one_statistic_is_limited(
    mapping: dict[str, Any], given: Any, statistic: str, bound: Any
) -> None:
    budget = _budget(mapping, given)
    assert (budget.statistic, budget.bound) == (statistic, bound)
    assert (budget.batch_size, budget.device, budget.threads, budget.lengths) == (1, *[None] * 3)


@pytest.mark.parametrize(
    ("given", "limit_ms"),
    [
        ({"p95": "8 ms"}, 8.0),
        ({"p95": "25%"}, 5.0),
        ({"throughput": "200/s", "batch_size": 4}, 20.0),
        ({"throughput": "2x", "batch_size": 4}, 10.0),
    ],
)
def test_limit_is_of_a_request_in_ms(mapping: dict[str, Any], given: Any, limit_ms: float) -> None:
    assert _budget(mapping, given).limit(20.0) == pytest.approx(limit_ms)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"p95": "8 ms"}, {"p95": "8 ms", "batch_size": 1}),
        ([{"p95": "8 ms"}], {"p95": "8 ms", "batch_size": 1}),
        ({"throughput": "1.5x"}, {"throughput": "150%", "batch_size": 1}),
        ({"mean": Latency(ratio=0.5)}, {"mean": "50%", "batch_size": 1}),
        ({"throughput": Throughput(ratio=2.0)}, {"throughput": "200%", "batch_size": 1}),
        (
            {"p50": "1 s", "batch_size": 8, "device": "cpu", "threads": 2, "lengths": (9, 8)},
            {"p50": "1000 ms", "batch_size": 8, "device": "cpu", "threads": 2, "lengths": [9, 8]},
        ),
    ],
)
def test_plain_values_make_an_equal_spec(mapping: dict[str, Any], given: Any, written: Any) -> None:
    spec = Spec.from_mapping({**mapping, "budget": {"latency": given, "flops": "40%"}})
    plain = json.loads(json.dumps(spec.to_plain(), allow_nan=False))
    assert plain["budget"] == {"flops": "40%", "latency": written}
    assert Spec.from_mapping(plain) == spec
    assert Spec.from_mapping(plain).to_plain() == plain


def test_one_budget_is_enough(mapping: dict[str, Any]) -> None:
    spec = Spec.from_mapping({**mapping, "budget": {"latency": {"p95": "8 ms"}}})
    assert spec.budget.flops is None and "flops" not in spec.to_plain()["budget"]
    assert Spec.from_mapping(mapping).budget.latency is None


@pytest.mark.parametrize("given", [{}, {"flops": None}, {"latency": None}])
def test_no_budget_is_refused(mapping: dict[str, Any], given: Any) -> None:
    with pytest.raises(SpecErrors, match="^budget: `budget` must have `flops`, `latency` or both"):
        Spec.from_mapping({**mapping, "budget": given})


@pytest.mark.parametrize(
    ("workers", "latency", "is_right"),
    [
        ("auto", "auto", True),
        ("auto", "cpu", True),
        ("auto", "cuda", True),
        ("cpu", "auto", True),
        ("cpu", "cpu", True),
        ("cuda", "cuda", True),
        ("cpu", "cuda", False),
        ("cuda", "cpu", False),
    ],
)
def test_device_is_that_of_the_workers(
    mapping: dict[str, Any], workers: str, latency: str, is_right: bool
) -> None:
    given = {"p95": "8 ms", "device": latency}
    if is_right:
        assert _budget(mapping, given, workers={"device": workers}).device == latency
        return
    with pytest.raises(SpecErrors, match=f"`device` must be what the workers use.*`{workers}`"):
        _budget(mapping, given, workers={"device": workers})


@pytest.mark.parametrize("index", [0, 511])
def test_lengths_must_fit_what_texts_are_cut_to(mapping: dict[str, Any], index: int) -> None:
    lengths = [128] * 512
    assert len(_budget(mapping, {"p95": "8 ms", "lengths": lengths}).lengths) == 512
    lengths[index] = 129
    with pytest.raises(SpecErrors, match=rf"`lengths\[{index}\]` must be at most 128"):
        _budget(mapping, {"p95": "8 ms", "lengths": lengths})


def test_too_many_lengths_are_refused(mapping: dict[str, Any]) -> None:
    with pytest.raises(SpecErrors, match="must be a list of 1 to 512 counts of tokens"):
        _budget(mapping, {"p95": "8 ms", "lengths": [8] * 513})
