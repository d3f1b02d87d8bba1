"""Hostile and unreadable input ends soon, and in one clear error."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from trimtab.spec import Spec, SpecErrors
from trimtab.spec._document import MAX_BYTES, MAX_DEPTH, MAX_KEYS, MAX_NODES
from trimtab.spec._reader import read_text


def _fill(unit: str) -> str:
    return (unit * (MAX_BYTES // len(unit)))[: MAX_BYTES - 8]


HOSTILE = {
    "brackets": _fill("["),
    "brackets on lines": _fill("[\n"),
    "braces": _fill("{"),
    "mappings in mappings": _fill("{a: "),
    "json mappings": _fill('{"a":'),
    "dashes": _fill("- "),
    "question marks": _fill("? "),
    "indents": "".join(" " * i + "a:\n" for i in range(600)),
    "one word": _fill("a"),
    "one quoted text": '"' + _fill("a"),
    "quotes": _fill("'a' "),
    "escapes": '"' + _fill("\\n") + '"',
    "json escapes": '["' + _fill("\\\\")[:-8] + '"]',
    "line breaks": _fill("\n") + "a",
    "carriage returns": _fill("\r") + "a",
    "comments": _fill("#\n"),
    "directives": _fill("%FOO bar\n"),
    "documents": _fill("---\n"),
    "tags": _fill("!a "),
    "anchors": _fill("&a "),
    "aliases": _fill("*a "),
    "alias bomb": "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(99)),
    "digits": "name: " + _fill("9")[:-16],
    "hexadecimal": "name: 0x" + _fill("f")[:-16],
    "keys": "".join(f"k{i}: 1\n" for i in range(9_000)),
    "near keys": "".join(f"nam{i}: 1\n" for i in range(90)),
    "values": "name: [" + "1," * 9_900 + "]",
    "strategies": "search: {strategies: [" + "fisher," * 9_900 + "]}",
    "choices": "search: {strategies: [{fisher: {"
    + ",".join(f"calibratio{i}: 1" for i in range(99))
    + "}}]}",
    "long path": "model: " + "a/" * 100_000,
}


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_within_100_ms(name: str, form: Any) -> None:
    # CPU time and the best of three, so that neither a busy machine nor a collection of what other
    # tests left behind fails the test.
    times, messages = [], set()
    for _ in range(3):
        start = time.process_time()
        with pytest.raises(SpecErrors) as caught:
            Spec.loads(HOSTILE[name], form=form)
        messages.add(str(caught.value))
        times.append(time.process_time() - start)
    assert min(times) <= 0.1
    assert len(messages) == 1 and all(len(message) < 20_000 for message in messages)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_depth_is_limited_exactly(form: Any) -> None:
    def nested(depth: int) -> str:
        return "[" * depth + "]" * depth

    read_text(nested(MAX_DEPTH), "spec", form)
    with pytest.raises(SpecErrors, match="at most 32 levels"):
        read_text(nested(MAX_DEPTH + 1), "spec", form)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_number_of_values_is_limited_exactly(form: Any) -> None:
    def items(count: int) -> str:
        return "[" + ",".join(["1"] * count) + "]"

    read_text(items(MAX_NODES - 1), "spec", form)
    with pytest.raises(SpecErrors, match="at most 10,000 values"):
        read_text(items(MAX_NODES), "spec", form)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_number_of_keys_is_limited_exactly(form: Any) -> None:
    def keys(count: int) -> str:
        return "{" + ",".join(f'"k{i}": 1' for i in range(count)) + "}"

    read_text(keys(MAX_KEYS), "spec", form)
    with pytest.raises(SpecErrors, match="at most 100 keys"):
        read_text(keys(MAX_KEYS + 1), "spec", form)


def test_size_is_limited_exactly() -> None:
    read_text("a: 1 #" + "x" * (MAX_BYTES - 6), "spec.yaml", "yaml")
    with pytest.raises(SpecErrors, match="at most 256 KiB"):
        read_text("a: 1 #" + "x" * (MAX_BYTES - 5), "spec.yaml", "yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must not be empty"),
        (b" \n\t\n", "must not be empty"),
        (b"\x7fELF\x00\x01", "binary file"),
        ("name: x".encode("utf-16"), "binary file"),
        (b"name: x\nmodel: caf\xe9\n", "line 2 has the byte 0xe9"),
        (b"name: \x1b[31mred\n", r"U\+001B"),
        ("name: a\u2028b\n".encode(), r"U\+2028"),
    ],
)
def test_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecErrors, match=words) as caught:
        Spec.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '{"\\u0007": 1}'])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_escaped_control_character_is_refused(text: str, form: Any) -> None:
    with pytest.raises(SpecErrors):
        read_text(text, "spec", form)


def test_missing_file_folder_and_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match="there is no such file"):
        Spec.load(tmp_path / "none.yaml")
    with pytest.raises(SpecErrors, match="this is a folder"):
        Spec.load(tmp_path)
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(SpecErrors, match="regular file"):
        Spec.load(pipe)
    with pytest.raises(SpecErrors, match="readable file, but: File name too long"):
        Spec.load(tmp_path / ("x" * 300) / "spec.yaml")
    with pytest.raises(SpecErrors, match="there is no such file"):
        Spec.load("nul\0.yaml")
