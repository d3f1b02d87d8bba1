"""A spec as plain data that remembers where each value stood; built under limits.

Both readers feed :class:`TreeBuilder`, which never recurses: hostile nesting is refused while it
is read, long before Python's own stack would give in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from trimtab.spec._words import dotted, text_cut
from trimtab.spec.errors import KeyPath, SpecError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_KEYS = 100  # of one mapping; far more than any has, and each unknown one costs a message

# Escapes can put these into a text, from where they would reach terminals and file names.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class ReadError(ValueError):
    """Text that is no spec; ``line`` and ``col`` count from 0."""

    def __init__(self, message: str, line: int, col: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.line, self.col, self.hint = message, line, col, hint


@dataclass(frozen=True)
class Place:
    """Where something starts in a text; both count from 0."""

    line: int
    col: int


@dataclass(frozen=True)
class Document:
    """Plain data with the places of its values and keys.

    ``file`` is the name to show. ``values`` and ``keys`` lead from a path to a place.
    """

    data: Any
    file: str
    lines: tuple[str, ...]
    values: dict[KeyPath, Place]
    keys: dict[KeyPath, Place]

    def error(
        self, message: str, path: KeyPath, *, hint: str | None = None, at_key: bool = False
    ) -> SpecError:
        """Makes an error that points at the value (or the key) of ``path``.

        What is not there is looked for in the mapping that should hold it.
        """
        place = self._find(path, at_key)
        return error_at(message, self.file, self.lines, place, path=path, hint=hint)

    def _find(self, path: KeyPath, at_key: bool) -> Place:
        first, second = (self.keys, self.values) if at_key else (self.values, self.keys)
        place = first.get(path) or second.get(path)
        if place is not None:
            return place
        return self._find(path[:-1], at_key=True) if path else Place(0, 0)


def error_at(
    message: str,
    file: str,
    lines: tuple[str, ...],
    place: Place,
    *,
    path: KeyPath = (),
    hint: str | None = None,
) -> SpecError:
    """Makes an error that quotes the line of ``place``."""
    source = lines[place.line] if place.line < len(lines) else ""
    return SpecError(message, dotted(path), file, place.line + 1, place.col + 1, source, hint)


@dataclass
class _Open:
    container: dict[str, Any] | list[Any]
    path: KeyPath
    key: str | None = None


@dataclass
class TreeBuilder:
    """Puts scalars, lists and mappings together and holds the limits.

    Raises:
        ReadError: from every method, for a repeated or compound key, or beyond a limit.
    """

    values: dict[KeyPath, Place] = field(default_factory=dict)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    root: Any = None
    _stack: list[_Open] = field(default_factory=list)

    @property
    def wants_key(self) -> bool:
        """Tells whether the next scalar is the key of a mapping."""
        return bool(self._stack) and self._is_at_key(self._stack[-1])

    def key(self, name: str, place: Place) -> None:
        """Takes the key of the value that comes next."""
        _check_text(name, place)
        top = self._stack[-1]
        if name in top.container:
            raise ReadError(
                f"a key must stand once, but `{text_cut(name, 40)}` came again",
                place.line,
                place.col,
                "remove one of the two",
            )
        if len(top.container) >= MAX_KEYS:
            raise ReadError(f"a mapping must have at most {MAX_KEYS} keys", *_at(place))
        top.key = name
        self.keys[(*top.path, name)] = place

    def scalar(self, value: Any, place: Place) -> None:
        """Takes a text, number, truth value or nothing."""
        if isinstance(value, str):
            _check_text(value, place)
        self._add(value, place)

    def open(self, container: dict[str, Any] | list[Any], place: Place) -> None:
        """Starts a mapping or a list, given empty."""
        if self.wants_key:
            raise ReadError("a key must be plain text, but got a list or mapping", *_at(place))
        if len(self._stack) >= MAX_DEPTH:
            raise ReadError(f"a spec must be at most {MAX_DEPTH} levels deep", *_at(place))
        self._stack.append(_Open(container, self._add(container, place)))

    def close(self) -> None:
        """Ends the innermost mapping or list."""
        self._stack.pop()

    def _add(self, value: Any, place: Place) -> KeyPath:
        if len(self.values) >= MAX_NODES:
            raise ReadError(f"a spec must have at most {MAX_NODES:,} values", *_at(place))
        path: KeyPath = ()
        if not self._stack:
            self.root = value
        else:
            top = self._stack[-1]
            if isinstance(top.container, list):
                path = (*top.path, len(top.container))
                top.container.append(value)
            else:
                assert top.key is not None
                path = (*top.path, top.key)
                top.container[top.key], top.key = value, None
        self.values[path] = place
        return path

    @staticmethod
    def _is_at_key(top: _Open) -> bool:
        return isinstance(top.container, dict) and top.key is None


def _check_text(text: str, place: Place) -> None:
    if _UNPRINTABLE.search(text):
        raise ReadError("a text must have no control characters", *_at(place), "remove them")


def _at(place: Place) -> tuple[int, int]:
    return place.line, place.col
