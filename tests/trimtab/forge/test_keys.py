from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from trimtab.forge import _keys, baseline_key, model_key, statistics_key
from trimtab_strategies import registry
from trimtab_strategies.cost import EncoderShape, LengthHistogram
from trimtab_strategies.recipe import Step
from trimtab_workers.jobs import Survey
from trimtab_workers.task import DataSource, Finetune, Task

SURVEY = Survey(
    model_fingerprint="m1",
    data_fingerprint="d1",
    family="bert",
    has_head=False,
    shape=EncoderShape.dense(32, 2, 4, 64),
    histogram=LengthHistogram({10: 5}),
    labels=("a", "b"),
    n_train=100,
    n_search=50,
    n_certify=50,
    n_rows=200,
    n_truncated=0,
    longest_allowed=64,
    model_bytes=9,
)
SOURCE = DataSource(path="/data/train.tsv")
TASK = Task(SOURCE, SOURCE, ("text",), "label", "accuracy", 64, 0)
CHOICES = {
    "calibration": 512,
    "importance": "labels",
    "head_weight": 1.0,
    "rearrange": True,
    "tuning": "scale",
    "damping": 1.0,
}
STEP = Step.of("fisher", CHOICES)


def test_trained_baseline_is_named_by_all_that_training_depends_on() -> None:
    first = baseline_key(SURVEY, TASK, Finetune())
    others = [
        baseline_key(replace(SURVEY, model_fingerprint="m2"), TASK, Finetune()),
        baseline_key(replace(SURVEY, data_fingerprint="d2"), TASK, Finetune()),
        baseline_key(SURVEY, replace(TASK, metric="f1"), Finetune()),
        baseline_key(SURVEY, replace(TASK, seed=1), Finetune()),
        baseline_key(SURVEY, TASK, Finetune(epochs=3)),
        baseline_key(SURVEY, TASK, Finetune(lr=1e-4)),
        baseline_key(SURVEY, TASK, Finetune(batch_size=8)),
        baseline_key(replace(SURVEY, has_head=True), TASK, Finetune()),
    ]
    assert len({first, *others}) == len(others) + 1
    assert {field.name for field in fields(Finetune)} == {"epochs", "lr", "batch_size"}


def test_baseline_that_is_not_trained_is_named_by_its_files_alone() -> None:
    ready = replace(SURVEY, has_head=True)
    first = baseline_key(ready, TASK, Finetune())
    assert baseline_key(replace(ready, data_fingerprint="d2"), TASK, Finetune()) == first
    assert baseline_key(ready, replace(TASK, seed=5), Finetune(epochs=9)) == first
    assert baseline_key(replace(ready, model_fingerprint="m2"), TASK, Finetune()) != first


@pytest.mark.parametrize(
    "other",
    [
        lambda: statistics_key("p2", "d1", STEP),
        lambda: statistics_key("p1", "d2", STEP),
        lambda: statistics_key("p1", "d1", Step.of("fisher", {**CHOICES, "calibration": 256})),
        lambda: statistics_key(
            "p1", "d1", Step.of("fisher", {**CHOICES, "importance": "predictions"})
        ),
        lambda: model_key("p1", "d1", "fisher", CHOICES),
    ],
)
def test_statistics_are_named_by_all_they_depend_on(other: Callable[[], str]) -> None:
    assert statistics_key("p1", "d1", STEP) != other()


@pytest.mark.parametrize(
    "choices", [{"rearrange": False}, {"damping": 3.0}, {"tuning": "none"}, {"constraint": 0.5}]
)
def test_statistics_are_shared_by_recipes_that_agree_on_them(choices: dict[str, Any]) -> None:
    other = Step.of("fisher", {**CHOICES, **choices})
    assert statistics_key("p1", "d1", other) == statistics_key("p1", "d1", STEP)


@pytest.mark.parametrize(
    "change",
    [
        {"calibration": 256},
        {"rearrange": False},
        {"tuning": "none"},
        {"damping": 1.0000001},
        {"constraint": 0.400001},
    ],
)
def test_model_is_named_by_every_choice(change: dict[str, Any]) -> None:
    first = {**CHOICES, "constraint": 0.4}
    assert model_key("p1", "d1", "fisher", {**first, **change}) != model_key(
        "p1", "d1", "fisher", first
    )


def test_model_is_named_by_parent_data_and_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry, "_STRATEGIES", {name: registry.get("fisher") for name in ("fisher", "other")}
    )
    keys = {
        model_key(parent, data, strategy, CHOICES)
        for parent in ("p1", "p2")
        for data in ("d1", "d2")
        for strategy in ("fisher", "other")
    }
    assert len(keys) == 8


def test_new_version_of_a_strategy_makes_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = statistics_key("p1", "d1", STEP), model_key("p1", "d1", "fisher", CHOICES)
    monkeypatch.setattr(type(registry.get("fisher")), "version", 99)
    assert statistics_key("p1", "d1", STEP) != before[0]
    assert model_key("p1", "d1", "fisher", CHOICES) != before[1]


def test_new_version_of_the_baseline_makes_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for survey in (SURVEY, replace(SURVEY, has_head=True)):
        before = baseline_key(survey, TASK, Finetune())
        monkeypatch.setattr(_keys, "BASELINE_VERSION", 99)
        assert baseline_key(survey, TASK, Finetune()) != before
        monkeypatch.undo()


def test_order_of_choices_does_not_matter(rng: random.Random) -> None:
    pairs = list(CHOICES.items())
    for _ in range(10):
        rng.shuffle(pairs)
        assert model_key("p1", "d1", "fisher", dict(pairs)) == model_key(
            "p1", "d1", "fisher", CHOICES
        )
        assert statistics_key("p1", "d1", Step("fisher", tuple(pairs))) == statistics_key(
            "p1", "d1", STEP
        )


def test_names_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie in users' databases: with other names all work there would be done again."""
    monkeypatch.setattr(type(registry.get("fisher")), "version", 1)
    monkeypatch.setattr(_keys, "BASELINE_VERSION", 1)
    assert model_key("p1", "d1", "fisher", CHOICES) == "d1d3046afc641a8828a01ca1fb1efc88"
    assert statistics_key("p1", "d1", STEP) == "a59cd42a230b72cae5e047dee32c81f6"
    assert baseline_key(SURVEY, TASK, Finetune()) == "2cfeb649802764417ccf84a76d22409e"
