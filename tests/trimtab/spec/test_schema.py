"""The committed JSON Schema is current, complete, and says the same as the model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from trimtab.spec import Spec, SpecErrors, schema_path
from trimtab.spec._reader import read_file
from trimtab.spec._schema import schema_text
from trimtab.starter import TEMPLATES, write_template
from trimtab_strategies import registry

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(schema_path().read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_schema_is_current() -> None:
    assert schema_path().read_text(encoding="utf-8") == schema_text(), (
        "run `python -m trimtab.spec`"
    )


def _properties(node: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        for key, value in node.get("properties", {}).items():
            yield f"{name}.{key}", value
        for key, value in node.items():
            yield from _properties(value, f"{name}.{key}")
    elif isinstance(node, list):
        for item in node:
            yield from _properties(item, name)


def test_every_field_has_a_description(validator: Any) -> None:
    bare = [
        name
        for name, field in _properties(validator.schema)
        if "description" not in field and name.rpartition(".")[2] not in registry.names()
    ]
    assert bare == []


def test_examples_match_their_patterns(validator: Any) -> None:
    import re

    seen = 0
    for _, field in _properties(validator.schema):
        for example in field.get("examples", []):
            assert re.search(field["pattern"], example)
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("name", ["starter", "hub"])
def test_templates_satisfy_the_schema(validator: Any, name: str, tmp_path: Path) -> None:
    assert name in TEMPLATES
    write_template(name, tmp_path / "spec.yaml")
    validator.validate(read_file(tmp_path / "spec.yaml").data)


def test_plain_values_satisfy_the_schema(validator: Any, mapping: dict[str, Any]) -> None:
    mapping["task"]["validation"] = {"dataset": "./folder"}
    mapping["search"] = {"strategies": ["fisher"]}
    validator.validate(Spec.from_mapping(mapping).to_plain())
    mapping["budget"] = {"latency": {"throughput": "2x", "lengths": [8, 16], "threads": 2}}
    validator.validate(Spec.from_mapping(mapping).to_plain())
    mapping["budget"]["latency"] = [mapping["budget"]["latency"]]
    validator.validate(mapping)
    mapping["budget"]["latency"].append({"p50": "50%", "p95": "8 ms"})
    validator.validate(mapping)
    validator.validate(Spec.from_mapping(mapping).to_plain())


BEYOND_A_SCHEMA = (
    "budget_of_nothing",
    "choice_pointless",
    "choice_timed_alone",
    "dataset_on_hub",
    "gpus_on_cpu",
    "inline_with_count",
    "json_duplicate",
    "latency_device_differs_in_list",
    "latency_device_not_of_workers",
    "latency_lengths_over_in_list",
    "latency_lengths_over_max_length",
    "latency_limited_twice",
    "latency_mean_and_throughput_in_list",
    "latency_median_over_p95",
    "latency_over_all",
    "latency_zero",
    "stop_gain_zero",
    "model_",
    "output_is_url",
    "strategy_repeated",
    "text_repeats",
    "throughput_below_baseline",
    "throughput_zero",
    "time_too_short",
    "flops_over_all",
    "flops_zero",
    "max_drop_too_large",
    "train_equals_validation",
    "train_is_url",
    "unlabeled_equals_validation",
    "unlabeled_lines_of_pairs",
    "max_length_is_float",  # 128.0 is an integer to a schema
)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_editors_see_what_is_broken(validator: Any, path: Path) -> None:
    try:
        data = read_file(path).data
    except SpecErrors:
        return  # no YAML, which an editor sees without a schema
    is_valid = validator.is_valid(data)
    assert is_valid == (path.stem.startswith(BEYOND_A_SCHEMA) and path.stem != "model_is_empty")


def test_unit_patterns_agree_with_the_units(
    validator: Any, mapping: dict[str, Any], rng: random.Random
) -> None:
    units = ["%", "pt", "ms", "s", "min", "h", "GFLOPs", "mflops", "K", "", "points", "hours", "m"]
    units += ["x", "/s", "/ s", "samples/s", "Text/Sec", "/min", "texts /second"]
    for _ in range(300):
        text = f"{rng.choice(['1', '2.5', '.5', '7.', '-1', '1e1', 'x'])}"
        text += rng.choice(["", " ", "  "]) + rng.choice(units)
        for section, key in (("budget", "flops"), ("", "max_drop"), ("search", "time")):
            plain = {**mapping, "search": {}}
            target = plain
            if section:
                target = plain[section] = dict(plain[section])
            target[key] = text
            assert _is_accepted(plain) <= validator.is_valid(plain), (key, text)
        for key in ("p50", "p95", "mean", "throughput"):
            plain = {**mapping, "budget": {"latency": {key: text}}}
            assert _is_accepted(plain) <= validator.is_valid(plain), (key, text)


def _is_accepted(plain: dict[str, Any]) -> bool:
    try:
        Spec.from_mapping(plain)
    except SpecErrors:
        return False
    return True
