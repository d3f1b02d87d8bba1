from __future__ import annotations

from typing import Any

import pytest

from trimtab.controller import budget_ratio, finetune_of, limits_of, task_of
from trimtab.selection import Limits
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
