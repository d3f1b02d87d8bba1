"""Numbers are of their own type, finite and bounded, wherever they come from; keys are spelt right.

In a spec, in options, and in what this package wrote itself: what it reads back may be another's.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trimtab.emission import CheckpointError, read_manifest
from trimtab.emission._manifest import MANIFEST, SELF, write_manifest
from trimtab.query import limits_from
from trimtab.spec import Spec, SpecErrors, UnitError
from trimtab_storage import InvalidValueError
from trimtab_storage._json import dumps
from trimtab_strategies import registry
from trimtab_strategies.recipe import stable_key

SPEC = {
    "name": "reviews",
    "model": "./bert",
    "task": {"train": "a.tsv", "validation": "b.tsv", "label": "label", "max_length": 64},
    "finetune": {"epochs": 2, "lr": 1e-3, "batch_size": 32},
    "budget": {"flops": "40%"},
    "max_drop": "1 pt",
    "search": {"trials": 4, "time": "5 min", "seed": 0, "strategies": [{"fisher": {"damping": 1}}]},
    "workers": {"count": 1, "gpus_each": 0.5, "trial_timeout": "20 min"},
}
WHOLE = [
    ("task", "max_length"),
    ("finetune", "epochs"),
    ("finetune", "batch_size"),
    ("search", "trials"),
    ("search", "seed"),
    ("workers", "count"),
]
REAL = [
    ("finetune", "lr"),
    ("workers", "gpus_each"),
    ("search", "strategies", 0, "fisher", "damping"),
]
QUANTITIES = [
    ("budget", "flops"),
    ("max_drop",),
    ("search", "time"),
    ("workers", "trial_timeout"),
]
NEVER: list[Any] = [
    True,
    False,
    math.nan,
    math.inf,
    -math.inf,
    -1,
    10**400,
    1e300,
    "1",
    "",
    [[1]],
    {},
]
KEYS = [
    ((), "max_dropp"),
    (("task",), "max_lenght"),
    (("finetune",), "epoch"),
    (("budget",), "flop"),
    (("search",), "trails"),
    (("workers",), "gpu_each"),
    (("search", "strategies", 0, "fisher"), "dampin"),
]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SPEC)
    inner: Any = spec
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return spec


def texts_of(spec: Any) -> Iterator[tuple[str, str]]:
    """Writes a spec in the forms that it can be given in."""
    text = json.dumps(spec)
    yield "json", text
    for word, in_yaml in (("-Infinity", "-.inf"), ("Infinity", ".inf"), ("NaN", ".nan")):
        text = text.replace(word, in_yaml)
    yield "yaml", text


@pytest.mark.parametrize("path", [*WHOLE, *REAL, *QUANTITIES], ids=str)
@pytest.mark.parametrize("value", NEVER, ids=lambda value: repr(value)[:12])
def test_what_is_no_number_for_it_is_refused(path: tuple[Any, ...], value: Any) -> None:
    spec = changed(path, value)
    with pytest.raises(SpecErrors):
        Spec.from_mapping(spec)
    for form, text in texts_of(spec):
        with pytest.raises(SpecErrors) as caught:
            Spec.loads(text, form=form)  # type: ignore[arg-type]
        assert len(caught.value.errors) == 1


@pytest.mark.parametrize("path", WHOLE, ids=str)
@pytest.mark.parametrize("value", [16.0, 16.5, 1e1, 10**12], ids=str)
def test_what_is_counted_is_whole_and_bounded(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(SpecErrors):
        Spec.from_mapping(changed(path, value))


def test_the_spec_of_these_tests_is_sound() -> None:
    """Else all of them would pass for another reason."""
    for form, text in texts_of(SPEC):
        assert Spec.loads(text, form=form) == Spec.from_mapping(SPEC)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-03", ".001"])
def test_every_way_of_writing_a_number_is_read(text: str) -> None:
    yaml = json.dumps(changed(("finetune", "lr"), 0.123)).replace("0.123", text)
    assert Spec.loads(yaml, form="yaml").finetune.lr == 1e-3


@pytest.mark.parametrize(("section", "key"), KEYS, ids=str)
def test_a_misspelt_key_is_refused_and_the_right_one_named(
    section: tuple[Any, ...], key: str
) -> None:
    with pytest.raises(SpecErrors, match="did you mean") as caught:
        Spec.from_mapping(changed((*section, key), 1))
    assert len(caught.value.errors) == 1


LIMITS = ["max_drop", "max_flops", "max_latency"]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    "value",
    [True, math.nan, math.inf, -0.1, 10**400, "nan", "inf", "-1", "1e999", "0x1", "True", "1_0"],
    ids=lambda value: repr(value)[:12],
)
def test_a_limit_that_is_no_number_is_refused(limit: str, value: Any, command: Any) -> None:
    with pytest.raises(UnitError, match=limit):
        limits_from({"metric": 0.9}, **{limit: value})


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_may_have_an_exponent(limit: str) -> None:
    one, other = (limits_from({"metric": 0.9}, **{limit: value}) for value in ("1e-3", 0.001))
    assert one == other


@pytest.mark.parametrize("name", registry.names())
def test_a_choice_takes_its_own_type_only(name: str) -> None:
    for choice in registry.get(name).choices:
        assert choice.admits(choice.default)
        strange = [math.nan, math.inf, -math.inf, None, "1", [choice.default], 10**400]
        strange += [] if isinstance(choice.default, bool) else [True, False]
        assert not any(choice.admits(value) for value in strange), choice.name


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_what_is_not_finite_gets_into_no_table_and_no_name(value: Any) -> None:
    with pytest.raises(InvalidValueError, match="finite numbers"):
        dumps(value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        stable_key(value)


MANIFESTS: list[tuple[tuple[Any, ...], Any]] = [
    (("point",), None),
    (("point", "flops"), True),
    (("point", "flops"), "1e6"),
    (("point", "flops"), -1),
    (("point", "params"), 1.5),
    (("point", "params"), 10**30),
    (("task", "max_length"), 0),
    (("task", "max_length"), True),
    (("task", "text"), "text"),
    (("task", "text"), []),
    (("task", "label"), 3),
    (("workload",), {}),
    (("workload",), {"0": 1}),
    (("workload",), {"ten": 1}),
    (("workload",), {"10": -1}),
    (("workload",), {"10": 1.5}),
    (("tensors",), {"a": [-1]}),
    (("tensors",), [["a", 1]]),
    (("reference",), {"input_ids": [], "logits": []}),
    (("reference", "input_ids", 0), []),
    (("reference", "input_ids", 0, 0), -1),
    (("reference", "input_ids", 0, 0), 10**12),
    (("reference", "input_ids", 0, 0), True),
    (("reference", "logits"), [[0.0, 1.0]]),
    (("reference", "logits", 0), [0.0]),
    (("reference", "logits", 0, 0), "0.5"),
    (("reference", "logits", 0, 0), None),
    (("study",), 7),
]


@pytest.mark.parametrize(("path", "value"), MANIFESTS, ids=str)
def test_a_manifest_signed_anew_is_not_trusted(
    path: tuple[Any, ...], value: Any, checkpoint: Path, command: Any
) -> None:
    content: Any = json.loads((checkpoint / MANIFEST).read_text())
    facts = {name: each for name, each in content.items() if name not in ("format", "files", SELF)}
    inner = facts
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    write_manifest(checkpoint, facts)
    ran = command("verify", checkpoint)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), ran


@pytest.mark.parametrize("word", ["NaN", "Infinity", "1e999"])
def test_a_manifest_with_a_number_that_is_not_finite_is_refused(
    word: str, checkpoint: Path
) -> None:
    file = checkpoint / MANIFEST
    metric = json.dumps(read_manifest(checkpoint)["point"]["metric"])
    file.write_text(file.read_text().replace(metric, word))
    with pytest.raises(CheckpointError, match=MANIFEST):
        read_manifest(checkpoint)
