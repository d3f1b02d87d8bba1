"""What a loaded spec holds, how it is written out, and what may change between runs."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pydantic
import pytest

from trimtab.spec import (
    Drop,
    Duration,
    Flops,
    Spec,
    SpecErrors,
    StrategyEntry,
    changed_fields,
)
from trimtab.spec._stopping import Share, Stop
from trimtab_strategies import registry

EXAMPLE = """\
name: reviews
model: ./my-finetuned-bert
task:
  kind: classification
  train: data/train.tsv
  validation: {dataset: ./folder, config: en}
  unlabeled: data/more.jsonl
  text: [sentence, other]
  label: label
  metric: f1
  max_length: 64
finetune: {epochs: 3, lr: 1, batch_size: 16}
budget:
  flops: 1.2 GFLOPs
max_drop: 1%
search:
  strategies:
    - fisher: {calibration: [512, 256], tuning: scale, damping: 1}
  trials: 7
  time: 2 h
  stop: {gain: 0.5%, patience: 4}
  seed: 3
workers: {executor: ray, count: 2, gpus_each: 0.5, device: cuda, trial_timeout: 90 s, address: auto}
output: out
"""


def test_every_field_arrives(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(EXAMPLE)
    spec = Spec.load(path)
    assert spec.model == str(tmp_path / "my-finetuned-bert")
    assert spec.task.train.path == str(tmp_path / "data/train.tsv")
    assert spec.task.validation.dataset == str(tmp_path / "folder")
    assert (spec.task.validation.config, spec.task.validation.split) == ("en", "validation")
    assert spec.task.unlabeled == str(tmp_path / "data/more.jsonl")
    assert (spec.task.text, spec.task.metric) == (("sentence", "other"), "f1")
    assert spec.finetune.lr == 1.0
    assert spec.budget.flops == Flops(absolute=1.2e9)
    assert spec.max_drop == Drop(relative=0.01)
    pins = {"calibration": (256, 512), "tuning": ("scale",), "damping": (1.0,)}
    assert spec.search.strategies == (StrategyEntry("fisher", pins),)
    assert spec.search.time == Duration(7200.0)
    assert spec.search.stop == Stop(gain=Share(0.005), patience=4)
    assert spec.workers.trial_timeout == Duration(90.0)
    assert spec.output == str(tmp_path / "out")


def test_defaults(mapping: dict[str, Any], tmp_path: Path) -> None:
    spec = Spec.from_mapping(mapping, folder=tmp_path)
    assert (spec.task.kind, spec.task.metric, spec.task.max_length) == (
        "classification",
        "accuracy",
        128,
    )
    assert spec.task.unlabeled is None and "unlabeled" not in spec.to_plain()["task"]
    assert spec.max_drop == Drop(absolute=0.01)
    assert [entry.name for entry in spec.search.strategies] == list(registry.names())
    assert (spec.search.trials, spec.search.seed) == (40, 0)
    assert spec.search.stop is None and "stop" not in spec.to_plain()["search"]
    assert (spec.workers.executor, spec.workers.count, spec.workers.address) == ("ray", 1, None)
    assert spec.output == str(tmp_path / "runs/reviews")


@pytest.mark.parametrize("given", [{}, {"gain": "1 %"}, {"patience": 10}])
def test_what_a_stop_leaves_out_has_a_default(mapping: dict[str, Any], given: Any) -> None:
    mapping["search"] = {"stop": given}
    stop = Spec.from_mapping(mapping).search.stop
    assert stop == Stop(gain=Share(0.01), patience=10)


@pytest.mark.parametrize(
    ("given", "ratios"),
    [(["25%"], [0.25]), (["10%", "30%"], [0.1, 0.3]), ([], []), (["0.5%", "1%"], [0.005, 0.01])],
)
def test_looks_are_shares_of_the_rows(
    mapping: dict[str, Any], given: list[str], ratios: list[float]
) -> None:
    mapping["search"] = {"looks": given}
    spec = Spec.from_mapping(mapping)
    assert [share.ratio for share in spec.search.looks or ()] == pytest.approx(ratios)
    assert spec.to_plain()["search"]["looks"] == given
    assert Spec.from_mapping(spec.to_plain()) == spec
    mapping["search"] = {}
    assert Spec.from_mapping(mapping).identity() == spec.identity(), "they may change"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("25%", "must be a list of at most 4 percentages"),
        (["10%"] * 5, "must be a list of at most 4 percentages"),
        (["30%", "10%"], "must go up from look to look"),
        (["30%", "30%"], "must go up from look to look"),
        (["100%"], "must be less than 100%"),
        (["0%"], "must be from 0.01% to 100%"),
        ([0.25], "must be a percentage with its sign"),
        (["-5%"], "must not be negative"),
        ([["5%"]], "must be a percentage with its sign"),
    ],
)
def test_wrong_looks_are_refused(mapping: dict[str, Any], given: Any, message: str) -> None:
    mapping["search"] = {"looks": given}
    with pytest.raises(SpecErrors, match=message):
        Spec.from_mapping(mapping)


def test_a_stop_may_be_given_and_taken_back(mapping: dict[str, Any]) -> None:
    without = Spec.from_mapping(mapping).identity()
    mapping["search"] = {"stop": {"patience": 3}}
    with_stop = Spec.from_mapping(mapping).identity()
    assert changed_fields(without, with_stop) == changed_fields(with_stop, without) == []


def test_plain_values_are_json_and_make_an_equal_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(EXAMPLE)
    spec = Spec.load(path)
    plain = json.loads(json.dumps(spec.to_plain(), allow_nan=False))
    assert plain["budget"] == {"flops": "1.2 GFLOPs"}
    assert plain["max_drop"] == "1%"
    assert plain["search"]["time"] == "2 h"
    assert plain["search"]["stop"] == {"gain": "0.5%", "patience": 4}
    assert plain["search"]["strategies"] == [
        {"fisher": {"calibration": [256, 512], "tuning": "scale", "damping": 1.0}}
    ]
    assert plain["task"]["train"] == str(tmp_path / "data/train.tsv")
    assert Spec.from_mapping(plain, folder="/elsewhere") == spec


def test_python_values_do_as_well_as_text(mapping: dict[str, Any]) -> None:
    mapping["task"]["unlabeled"] = "more.txt"
    by_text = Spec.from_mapping(mapping)
    mapping["budget"] = {"flops": Flops(ratio=0.4)}
    mapping["max_drop"] = Drop(absolute=0.01)
    mapping["model"] = Path("bert")
    mapping["task"]["train"] = Path("data/train.tsv")
    mapping["task"]["unlabeled"] = Path("more.txt")
    mapping["task"]["text"] = "sentence"
    assert Spec.from_mapping(mapping) == by_text


def test_a_spec_is_frozen(mapping: dict[str, Any]) -> None:
    spec = Spec.from_mapping(mapping)
    with pytest.raises(pydantic.ValidationError):
        spec.name = "other"
    with pytest.raises(pydantic.ValidationError):
        spec.search.trials = 3


ALLOWED_CHANGES: list[tuple[str, Any]] = [
    ("budget.flops", "30%"),
    ("budget.latency", {"p95": "8 ms"}),
    ("budget", {"latency": {"throughput": "2x", "batch_size": 8}}),
    ("max_drop", "2 pt"),
    ("search.trials", 80),
    ("search.time", "3 h"),
    ("search.stop", {}),
    ("search.stop", {"gain": "2%", "patience": 5}),
    ("workers.count", 4),
    ("workers.executor", "inline"),
    ("output", "elsewhere"),
    # What is behind a local path is known by its contents.
    ("model", "./other"),
    ("task.train", "other.tsv"),
    ("task.validation", "other.jsonl"),
    ("task.unlabeled", "more.txt"),
]
REFUSED_CHANGES: list[tuple[str, Any]] = [
    ("name", "other"),
    ("model", "package:other/model"),
    ("model", "owner/other"),
    ("task.train", {"dataset": "owner/other"}),
    ("task.validation", {"dataset": "./folder", "split": "dev"}),
    ("task.validation", {"dataset": "./folder", "config": "en"}),
    ("task.text", ["a", "b"]),
    ("task.label", "other"),
    ("task.metric", "f1"),
    ("task.max_length", 64),
    ("finetune.epochs", 9),
    ("finetune.lr", 1e-4),
    ("search.seed", 1),
    ("search.strategies", [{"fisher": {"calibration": 256}}]),
]


def _changed(mapping: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    other = copy.deepcopy(mapping)
    *sections, key = name.split(".")
    target = other
    for section in sections:
        target = target.setdefault(section, {})
    target[key] = value
    return other


@pytest.mark.parametrize(("name", "value"), ALLOWED_CHANGES)
def test_a_study_goes_on_after_this_change(mapping: dict[str, Any], name: str, value: Any) -> None:
    new = Spec.from_mapping(_changed(mapping, name, value))
    old = Spec.from_mapping(mapping)
    assert new != old
    assert changed_fields(old.identity(), new.identity()) == []


@pytest.mark.parametrize(("name", "value"), REFUSED_CHANGES)
def test_a_study_does_not_go_on_after_this_change(
    mapping: dict[str, Any], name: str, value: Any
) -> None:
    old = Spec.from_mapping(mapping)
    new = Spec.from_mapping(_changed(mapping, name, value), allow_hub=True)
    changed = changed_fields(old.identity(), new.identity())
    assert changed
    assert all(field == name or field.startswith(f"{name}.") for field in changed)


def test_a_study_goes_on_in_another_folder(mapping: dict[str, Any], tmp_path: Path) -> None:
    mapping["task"]["validation"] = {"dataset": "./rows", "config": "en", "split": "dev"}
    mapping["task"]["unlabeled"] = "more.txt"
    here, there = (Spec.from_mapping(mapping, folder=tmp_path / name) for name in ("a", "b"))
    assert here.identity() == there.identity()
    assert here.identity()["task"]["validation"] == {"config": "en", "split": "dev"}
    assert str(tmp_path) not in json.dumps(here.identity())


def test_an_older_study_that_holds_local_paths_goes_on(mapping: dict[str, Any]) -> None:
    spec = Spec.from_mapping(mapping)
    old = spec.identity()
    old |= {"model": "/old/bert", "task": {**old["task"], "train": "/old/train.tsv"}}
    assert changed_fields(old, spec.identity()) == []
    assert changed_fields({**old, "search": {}}, spec.identity()) != []


def test_what_is_not_here_stays_what_it_is(mapping: dict[str, Any]) -> None:
    mapping |= {"model": "owner/bert@0123abc"}
    mapping["task"] |= {"train": {"dataset": "owner/rows", "config": "en"}}
    identity = Spec.from_mapping(mapping, allow_hub=True).identity()
    assert identity["model"] == "owner/bert@0123abc"
    assert identity["task"]["train"] == {"dataset": "owner/rows", "config": "en", "split": "train"}
    mapping["model"] = "package:some_package/model"
    mapping["task"]["label"] = "/label"
    identity = Spec.from_mapping(mapping, allow_hub=True).identity()
    assert (identity["model"], identity["task"]["label"]) == (mapping["model"], "/label")


def test_equal_narrowings_are_equal(mapping: dict[str, Any]) -> None:
    one = _changed(mapping, "search.strategies", [{"fisher": {"calibration": [512, 256, 512]}}])
    two = _changed(mapping, "search.strategies", [{"fisher": {"calibration": (256, 512)}}])
    assert Spec.from_mapping(one).identity() == Spec.from_mapping(two).identity()


def test_python_errors_have_a_dotted_path(mapping: dict[str, Any]) -> None:
    mapping["task"]["text"] = ["a", 3]
    mapping["budget"]["flops"] = 0.4
    mapping["serch"] = {}
    with pytest.raises(SpecErrors) as caught:
        Spec.from_mapping(mapping)
    assert str(caught.value).split("\n") == [
        "serch: `serch` is not a key of a spec; did you mean `search`?",
        'task.text[1]: `text[1]` must be text, but got 3; write `"3"`',
        "budget.flops: `flops` must be FLOPs with a unit (`40%` of the baseline, or "
        "`1.2 GFLOPs` per sample), but got 0.4; write `40%` for a share of the baseline",
    ]
    assert [error.key for error in caught.value.errors] == ["serch", "task.text[1]", "budget.flops"]


STRANGE_VALUES: list[Any] = [
    *(math.nan, math.inf, 10**400, -(10**5000), 5e-324, -1e308, complex(1, 2)),
    *(b"x", "\ud800", "a\0b", "x" * 10**6),
    *({1, 2}, {1: 2}, {None: 1}, [[]], ({},), range(3), object(), int),
]


@pytest.mark.parametrize("value", STRANGE_VALUES, ids=range(len(STRANGE_VALUES)))
def test_no_python_value_anywhere_ends_in_another_exception(
    mapping: dict[str, Any], value: Any
) -> None:
    mapping["task"]["unlabeled"] = "more.txt"
    plain = Spec.from_mapping(mapping).to_plain()
    places = [(plain, key) for key in plain]
    places += [(plain[s], key) for s in plain if isinstance(plain[s], dict) for key in plain[s]]
    for container, key in places:
        kept, container[key] = container[key], value
        try:
            Spec.from_mapping(plain).to_plain()
        except SpecErrors as errors:
            assert str(errors)
        container[key] = kept
    with pytest.raises(SpecErrors):
        Spec.from_mapping(value)


def test_many_errors_are_cut(mapping: dict[str, Any]) -> None:
    mapping |= {f"zzz{i}": 1 for i in range(50)}
    with pytest.raises(SpecErrors) as caught:
        Spec.from_mapping(mapping)
    assert len(caught.value.errors) == 50
    assert str(caught.value).endswith("… and 30 more")


def test_split_left_empty_is_the_default(mapping: dict[str, Any]) -> None:
    mapping["task"]["train"] = {"dataset": "./folder", "split": None}
    spec = Spec.from_mapping(mapping)
    assert spec.task.train.split == "train"
    assert Spec.from_mapping(spec.to_plain()) == spec
