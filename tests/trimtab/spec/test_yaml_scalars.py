"""Plain scalars mean what YAML 1.2's core schema says, as editors show them."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.spec import SpecErrors
from trimtab.spec._reader import read_text

TABLE: list[tuple[str, Any]] = [
    ("no", "no"),
    ("yes", "yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("NO", "NO"),
    ("true", True),
    ("True", True),
    ("FALSE", False),
    ("tRue", "tRue"),
    ("null", None),
    ("~", None),
    ("", None),
    ("nULL", "nULL"),
    ("1e-3", 0.001),
    ("1E3", 1000.0),
    ("5e-5", 5e-5),
    (".5", 0.5),
    ("5.", 5.0),
    ("-0.0", 0.0),
    ("1:30", "1:30"),
    ("190:20:30", "190:20:30"),
    ("0o17", 15),
    ("017", 17),
    ("0x1F", 31),
    ("0b11", "0b11"),
    ("-12", -12),
    ("+12", 12),
    ("1_000", "1_000"),
    ("2024-01-31", "2024-01-31"),
    ("40%", "40%"),
    ("=", "="),
    ("'no'", "no"),
    ('"12"', "12"),
    ("'null'", "null"),
    ("|-\n  12", "12"),
]


@pytest.mark.parametrize(("text", "value"), TABLE)
def test_plain_scalar(text: str, value: Any) -> None:
    document = read_text(f"key: {text}\n", "spec.yaml", "yaml")
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.Inf", "+.INF", ".nan", ".NaN", "1e400", "9" * 50])
def test_number_that_is_not_finite_or_sane_is_refused(text: str) -> None:
    with pytest.raises(SpecErrors, match=r"spec\.yaml:1:6: a number must"):
        read_text(f"key: {text}\n", "spec.yaml", "yaml")


def test_repeated_key_is_refused() -> None:
    with pytest.raises(SpecErrors, match="`a` came again"):
        read_text("a: 1\na: 2\n", "spec.yaml", "yaml")


@pytest.mark.parametrize("key", ["no", "1", "~", "true"])
def test_key_is_always_text(key: str) -> None:
    assert read_text(f"{key}: 1\n", "spec.yaml", "yaml").data == {key: 1}


def test_places_of_keys_and_values() -> None:
    document = read_text("a:\n  - x\n  - {b: y}\n", "spec.yaml", "yaml")
    place = document.values[("a", 1, "b")]
    assert (place.line, place.col) == (2, 8)
    place = document.keys[("a", 1, "b")]
    assert (place.line, place.col) == (2, 5)


def test_json_and_yaml_readers_agree_on_json() -> None:
    text = '{"a": [1, -2.5e3, "x\\u00e9\\/\\"", true, null],\n  "b": {"c": {}},\n\n "d": []}'
    as_json = read_text(text, "spec.json", "json")
    as_yaml = read_text(text, "spec.yaml", "yaml")
    assert as_json.data == as_yaml.data
    assert as_json.values == as_yaml.values
    assert as_json.keys == as_yaml.keys


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_lines_are_counted_with_every_line_ending(newline: str, form: Any) -> None:
    document = read_text(f'{{"a": 1,{newline}{newline} "b": 2}}', "spec", form)
    assert (document.values[("b",)].line, document.values[("b",)].col) == (2, 6)


def test_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read_text(b"\xef\xbb\xbfa: 1\n", "spec.yaml", "yaml").data == {"a": 1}
