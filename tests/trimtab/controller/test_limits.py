from __future__ import annotations

import json
from typing import Any

import pytest

from trimtab.controller import budget_ratio, finetune_of, limits_of, task_of
from trimtab.controller._limits import latencies_of
from trimtab.selection import Limits
from trimtab_workers.latency.workload import Workload
from trimtab_workers.task import DataSource


@pytest.mark.parametrize(
    ("drop", "expected"), [("1 pt", 0.01), ("2.5 pt", 0.025), ("1%", 0.008), ("0 pt", 0.0)]
)
def test_drop_is_in_the_units_of_the_metric(bench: Any, drop: str, expected: float) -> None:
    limits = limits_of(bench.spec(max_drop=drop), 0.8)
    assert limits.max_drop == pytest.approx(expected)


def test_budget_may_be_a_share_or_absolute(bench: Any) -> None:
    share = limits_of(bench.spec(budget__flops="40%"), 0.9)
    assert (share.max_flops_ratio, share.max_flops) == (0.4, None)
    assert budget_ratio(share, 5e9) == 0.4
    absolute = limits_of(bench.spec(budget__flops="1.2 GFLOPs"), 0.9)
    assert (absolute.max_flops_ratio, absolute.max_flops) == (None, 1.2e9)
    assert budget_ratio(absolute, 3e9) == pytest.approx(0.4)
    assert budget_ratio(Limits(max_drop=0.01), 3e9) is None


@pytest.mark.parametrize(
    ("latency", "expected"),
    [
        ({"p95": "8 ms"}, 8.0),
        ({"p50": "50%"}, 10.0),
        ({"mean": "50%", "batch_size": 8}, 10.0),
        ({"throughput": "200/s", "batch_size": 8}, 40.0),
        ({"throughput": "200%", "batch_size": 8}, 10.0),
    ],
)
def test_latency_is_limited_in_ms(bench: Any, latency: Any, expected: float) -> None:
    limits = limits_of(bench.spec(budget={"latency": latency}), 0.9, 20.0)
    assert limits.max_latency_ms == pytest.approx(expected)
    assert (limits.max_flops_ratio, limits.max_flops) == (None, None)
    assert budget_ratio(limits, 3e9) is None and limits.has_budget


def test_a_share_of_a_latency_is_no_limit_while_the_baseline_has_none(bench: Any) -> None:
    for relative in ({"p95": "50%"}, {"throughput": "2x"}):
        spec = bench.spec(budget={"flops": "40%", "latency": relative})
        limits = limits_of(spec, 0.9)
        assert (limits.max_latency_ms, limits.max_flops_ratio) == (None, 0.4)
    absolute = bench.spec(budget={"latency": {"throughput": "100/s"}})
    assert limits_of(absolute, 0.9).max_latency_ms == 10.0


SEVERAL = [{"p50": "5 ms", "p95": "50%"}, {"throughput": "2x", "batch_size": 32}]


def test_several_latencies_are_limited_in_their_order(bench: Any) -> None:
    limits = limits_of(bench.spec(budget={"latency": SEVERAL}), 0.9, 10.0, 20.0, 300.0)
    assert limits.latencies_ms == (5.0, 10.0, 150.0)
    assert limits == Limits(limits.max_drop, None, None, 5.0, (10.0, 150.0))
    assert Limits(**json.loads(json.dumps(limits.to_plain()))) == limits
    unknown = limits_of(bench.spec(budget={"latency": SEVERAL}), 0.9)
    assert unknown.latencies_ms == (5.0,)


def test_one_latency_is_stored_as_ever(bench: Any) -> None:
    limits = limits_of(bench.spec(budget={"latency": {"p95": "8 ms"}}), 0.9, 10.0)
    names = ["max_drop", "max_flops_ratio", "max_flops", "max_latency_ms"]
    assert list(limits.to_plain()) == names


def test_a_budget_that_is_gone_leaves_no_limits(bench: Any) -> None:
    assert limits_of(bench.spec(), 0.9, 10.0, 20.0).latencies_ms == ()


@pytest.mark.parametrize(("named", "workers"), [("cpu", "auto"), (None, "cpu"), ("auto", "cuda")])
def test_all_requests_run_on_one_device(bench: Any, named: str | None, workers: str) -> None:
    second = {"throughput": "2x", "batch_size": 32, **({"device": named} if named else {})}
    spec = bench.spec(budget={"latency": [SEVERAL[0], second]}, workers__device=workers)
    wanted = latencies_of(spec)
    assert [(one.statistic, one.is_relative) for one in wanted] == [
        ("p50", False),
        ("p95", True),
        ("mean", True),
    ]
    assert [one.workload.batch_size for one in wanted] == [1, 1, 32]
    assert {one.workload.device for one in wanted} == {"cpu" if named == "cpu" else workers}


def test_workload_is_what_the_budget_says(bench: Any) -> None:
    assert latencies_of(bench.spec()) == ()
    latency = {"p50": "8 ms", "batch_size": 4, "device": "cpu", "threads": 2, "lengths": [8, 16]}
    (wanted,) = latencies_of(bench.spec(budget={"latency": latency}, search__seed=7))
    assert wanted.statistic == "p50"
    assert wanted.workload == Workload(4, "cpu", 2, (8, 16), 7)
    (wanted,) = latencies_of(bench.spec(budget={"latency": {"throughput": "2x"}}))
    assert wanted.statistic == "mean"


@pytest.mark.parametrize("own", [None, "auto"])
@pytest.mark.parametrize("workers", ["auto", "cpu", "cuda"])
def test_requests_run_where_the_workers_do(bench: Any, own: str | None, workers: str) -> None:
    latency = {"p95": "8 ms", **({"device": own} if own else {})}
    (wanted,) = latencies_of(bench.spec(budget={"latency": latency}, workers__device=workers))
    assert wanted.workload.device == workers


def test_task_and_finetuning_carry_all_that_workers_need(bench: Any) -> None:
    spec = bench.spec(
        task__metric="f1",
        task__unlabeled="more.txt",
        search__seed=7,
        finetune={"epochs": 3, "lr": 1e-3, "batch_size": 8},
    )
    task = task_of(spec)
    assert task.unlabeled == DataSource(path=str(bench.folder / "more.txt"))
    assert task_of(bench.spec()).unlabeled is None
    assert task.train.path == str(bench.folder / "train.tsv")
    assert task.validation.path == str(bench.folder / "dev.tsv")
    assert (task.text, task.label, task.metric) == (("text",), "label", "f1")
    assert (task.max_length, task.seed, task.allow_hub) == (64, 7, False)
    assert vars(finetune_of(spec)) == {"epochs": 3, "lr": 1e-3, "batch_size": 8}
