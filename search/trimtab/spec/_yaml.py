"""YAML by its event stream, with the scalars of YAML 1.2.

PyYAML reads YAML 1.1, where ``no`` is false, ``1:30`` is 90 and ``1e-3`` is text; editors read
1.2. So only its events are used, and plain scalars are resolved here by the 1.2 core schema.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from trimtab.spec._document import Place, ReadError, TreeBuilder

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {w: w.lower() == "true" for w in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 40

_HINTS = (
    (
        "found character that cannot start any token",
        "put the text in quotes, and indent with spaces",
    ),
    ("mapping values are not allowed", "put a text with `: ` in quotes, and check the indentation"),
    ("could not find expected ':'", "write `key: value`, and check the indentation"),
    ("did not find expected key", "check the indentation and the quotes"),
    ("did not find expected", "check brackets, commas and quotes"),
    ("unexpected end of stream", "close the quotes"),
)


def read_yaml(text: str, tree: TreeBuilder) -> None:
    """Feeds one YAML document into ``tree``.

    Raises:
        ReadError: if the text is not YAML, or uses what specs may not use: aliases, anchors,
            tags, directives, several documents.
    """
    documents = 0
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                _check_document(event, documents)
            else:
                _take(event, tree)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None


def _check_document(event: Any, number: int) -> None:
    if number > 1:
        raise ReadError("a spec must be one document, but another starts here", *_mark(event))
    if event.version or event.tags:
        raise ReadError("a spec must have no %YAML or %TAG directives", *_mark(event))


def _take(event: Any, tree: TreeBuilder) -> None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise ReadError(
            "a spec must have no anchors or aliases (`&`, `*`)",
            *_mark(event),
            "write the value out, or put the text in quotes",
        )
    if getattr(event, "tag", None) is not None:
        raise ReadError(
            "a spec must have no tags (`!`)", *_mark(event), "put the text in quotes if it is one"
        )
    if isinstance(event, yaml.ScalarEvent):
        _take_scalar(event, tree)
    elif isinstance(event, yaml.MappingStartEvent):
        tree.open({}, Place(*_mark(event)))
    elif isinstance(event, yaml.SequenceStartEvent):
        tree.open([], Place(*_mark(event)))
    elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
        tree.close()


def _take_scalar(event: Any, tree: TreeBuilder) -> None:
    place = Place(*_mark(event))
    if tree.wants_key:
        if event.value == "<<":
            raise ReadError(
                "a spec must have no merge keys (`<<`)", *_mark(event), "write the keys out"
            )
        tree.key(event.value, place)
        return
    is_plain = event.implicit[0]
    tree.scalar(resolve(event.value, place) if is_plain else event.value, place)


def resolve(text: str, place: Place) -> Any:
    """Gives a plain scalar its YAML 1.2 meaning.

    Raises:
        ReadError: for numbers that are not finite or absurdly long.
    """
    if text in _NOTHING:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _NOT_FINITE.fullmatch(text):
        raise ReadError(f"a number must be finite, but got {text}", place.line, place.col)
    based = _BASED.fullmatch(text)
    if based or _FLOAT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise ReadError(
                f"a number must have at most {_MAX_DIGITS} digits", place.line, place.col
            )
        return _based(based) if based else _decimal(text, place)
    return text


def _based(match: re.Match[str]) -> int:
    return int(match[1], 8) if match[1] else int(match[2], 16)


def _decimal(text: str, place: Place) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ReadError(f"a number must be finite, but got {text}", place.line, place.col)
    return value


def _mark(event: Any) -> tuple[int, int]:
    return event.start_mark.line, event.start_mark.column


def _syntax_error(error: yaml.MarkedYAMLError) -> ReadError:
    problem = " ".join(filter(None, (error.problem, error.context))) or "unknown problem"
    hint = next((hint for sign, hint in _HINTS if sign in problem), None)
    # Where a quote is never closed, the opening one helps more than the end of the file.
    is_unclosed = "unexpected end of stream" in problem and error.context_mark
    mark = error.context_mark if is_unclosed else error.problem_mark or error.context_mark
    place = (mark.line, mark.column) if mark else (0, 0)
    return ReadError(f"this is not YAML: {problem}", *place, hint)
