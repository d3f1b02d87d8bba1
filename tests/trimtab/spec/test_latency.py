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
            {"p95": "50%", "p50": "5 ms"},
            {"p50": "5 ms", "p95": "50%", "batch_size": 1},
        ),
        (
            [{"p95": "8 ms"}, {"throughput": "2x", "batch_size": 32}],
            [{"p95": "8 ms", "batch_size": 1}, {"throughput": "200%", "batch_size": 32}],
        ),
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


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        (
            {"p95": "50%", "p50": "5 ms"},
            [("p50", "p50", 5.0, False, 1), ("p95", "p95", 10.0, True, 1)],
        ),
        (
            [{"p95": "8 ms"}, {"throughput": "2x", "batch_size": 32}],
            [("p95", "p95", 8.0, False, 1), ("throughput", "mean", 10.0, True, 32)],
        ),
        (
            [{"p95": "8 ms"}, {"p50": "5 ms"}, {"p95": "9 ms", "lengths": [8]}],
            [("p95", "p95", 8.0, False, 1), ("p50", "p50", 5.0, False, 1)]
            + [("p95", "p95", 9.0, False, 1)],
        ),
    ],
)
def test_several_are_limited_in_order(mapping: dict[str, Any], given: Any, limits: Any) -> None:
    spec = Spec.from_mapping({**mapping, "budget": {"latency": given}})
    found = [
        (each.name, each.statistic, each.ms(20.0), each.is_relative, each.budget.batch_size)
        for each in spec.budget.latency_limits
    ]
    assert found == limits


def test_without_a_budget_nothing_is_limited(mapping: dict[str, Any]) -> None:
    assert Spec.from_mapping(mapping).budget.latency_limits == ()


@pytest.mark.parametrize(
    "given",
    [
        {"p50": "50%", "p95": "40%"},  # shares of two times, of which neither follows
        {"p50": "8 ms", "p95": "40%"},
        [{"p50": "8 ms"}, {"p95": "5 ms", "batch_size": 2}],
        [{"p95": "8 ms", "threads": 1}, {"p95": "5 ms", "threads": 2}],
        [{"p95": "8 ms", "device": "cpu"}, {"p50": "5 ms", "device": "auto"}],
        [{"mean": "8 ms", "batch_size": n} for n in range(1, 9)],
    ],
)
def test_what_may_hold_together_is_accepted(mapping: dict[str, Any], given: Any) -> None:
    _budget(mapping, given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [{"p95": "8 ms", "lengths": [8, 9]}, {"p95": "9 ms", "lengths": [9, 8]}],
            r"latency\[1\].p95: `p95` must be left out where `latency\[0\].p95` is given: both "
            "limit the p95 of the same requests; keep one",
        ),
        (
            {"mean": "8 ms", "throughput": "2x"},
            "throughput: `throughput` must be left out where `mean` is given",
        ),
        ({"p50": "8 ms", "p95": "8 ms"}, "p50: `p50` must be less than `p95` of the same requests"),
        (
            [{"p95": "8 ms", "device": "cpu"}, {"p50": "5 ms"}, {"mean": "5 ms", "device": "cuda"}],
            r"latency\[2\].device: `device` must be `cpu`, as `latency\[0\].device` is, but got "
            "`cuda`",
        ),
        ([{"mean": "8 ms", "batch_size": n} for n in range(1, 10)], "must be at most 8 mappings"),
    ],
)
def test_what_cannot_hold_together_is_refused(
    mapping: dict[str, Any], given: Any, said: str
) -> None:
    with pytest.raises(SpecErrors, match=said) as caught:
        _budget(mapping, given)
    assert len(caught.value.errors) == 1


def test_each_of_a_list_is_held_against_the_workers(mapping: dict[str, Any]) -> None:
    given = [{"p95": "8 ms"}, {"p50": "5 ms", "device": "cuda"}]
    with pytest.raises(SpecErrors, match=r"latency\[1\].device: .* must be what the workers use"):
        _budget(mapping, given, workers={"device": "cpu"})
