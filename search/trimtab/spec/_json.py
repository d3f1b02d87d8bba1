"""JSON with places, without recursion, and without what JSON does not have (NaN, comments)."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from trimtab.spec._document import Place, ReadError, TreeBuilder

_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:
      (?P<mark>[{}\[\],:])
    | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*")
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![\w.]))
    | (?P<word>-?[A-Za-z_]\w*)
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_WORDS = {"true": True, "false": False, "null": None}
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_MAX_DIGITS = 40

# What may come next: each state names itself in the words of an error message.
_VALUE, _ITEM, _FIRST_ITEM = "a value", "a value", "a value or `]`"
_KEY, _FIRST_KEY, _COLON = "a key in double quotes", "a key in double quotes or `}`", "`:`"
_NEXT_ITEM, _NEXT_KEY, _END = "`,` or `]`", "`,` or `}`", "the end of the file"
_TAKES_VALUE = frozenset({_VALUE, _FIRST_ITEM})
_TAKES_KEY = frozenset({_KEY, _FIRST_KEY})


def read_json(text: str, tree: TreeBuilder) -> None:
    """Feeds one JSON value into ``tree``; line breaks must be single newlines.

    Raises:
        ReadError: if the text is not JSON (RFC 8259), or a number is not finite.
    """
    reader = _Reader(text, tree)
    while not reader.is_done:
        reader.step()


class _Reader:
    """A state machine over tokens; ``_closers`` holds the bracket that ends each open level."""

    def __init__(self, text: str, tree: TreeBuilder) -> None:
        self._text = text
        self._tree = tree
        self._offset = 0
        self._line = 0
        self._line_start = 0
        self._closers: list[str] = []
        self._expected = _VALUE
        self.is_done = False

    def step(self) -> None:
        match = _TOKEN.match(self._text, self._offset)
        if match is None or match.lastgroup is None:
            self._fail(self._skip_space())
        self._offset = match.end()
        kind, token = match.lastgroup, match[match.lastgroup]
        start = match.start(match.lastgroup)
        if kind == "mark":
            self._mark(token, start)
        elif kind == "end":
            self._end(start)
        elif kind == "string" and self._expected in _TAKES_KEY:
            self._tree.key(self._string(token, start), self._place(start))
            self._expected = _COLON
        elif self._expected in _TAKES_VALUE:
            self._tree.scalar(self._scalar(kind, token, start), self._place(start))
            self._after_value()
        else:
            self._fail(start)

    def _mark(self, token: str, start: int) -> None:
        if token in "{[" and self._expected in _TAKES_VALUE:
            self._tree.open({} if token == "{" else [], self._place(start))
            self._closers.append("}" if token == "{" else "]")
            self._expected = _FIRST_KEY if token == "{" else _FIRST_ITEM
        elif token == ":" and self._expected == _COLON:
            self._expected = _VALUE
        elif token == "," and self._expected in (_NEXT_ITEM, _NEXT_KEY):
            self._expected = _KEY if self._expected == _NEXT_KEY else _ITEM
        elif self._closers[-1:] == [token] and token in self._expected:
            self._closers.pop()
            self._tree.close()
            self._after_value()
        else:
            self._fail(start)

    def _after_value(self) -> None:
        if not self._closers:
            self._expected = _END
        else:
            self._expected = _NEXT_KEY if self._closers[-1] == "}" else _NEXT_ITEM

    def _end(self, start: int) -> None:
        if self._expected != _END:
            self._fail(start)
        self.is_done = True

    def _scalar(self, kind: str, token: str, start: int) -> Any:
        if kind == "string":
            return self._string(token, start)
        if kind == "word" and token in _WORDS:
            return _WORDS[token]
        if kind == "number":
            return self._number(token, start)
        if token in _NOT_FINITE:
            raise ReadError(f"a number must be finite, but got {token}", *self._at(start))
        self._fail(start)

    def _string(self, token: str, start: int) -> str:
        try:
            text = json.loads(token)
        except ValueError:
            raise ReadError(
                "a text has an escape that JSON does not know", *self._at(start)
            ) from None
        assert isinstance(text, str)
        return text

    def _number(self, token: str, start: int) -> int | float:
        if len(token) > _MAX_DIGITS:
            raise ReadError(f"a number must have at most {_MAX_DIGITS} digits", *self._at(start))
        value: int | float = json.loads(token)
        if not math.isfinite(value):
            raise ReadError(f"a number must be finite, but got {token}", *self._at(start))
        return value

    def _skip_space(self) -> int:
        rest = self._text[self._offset :]
        return self._offset + len(rest) - len(rest.lstrip(" \t\n\r"))

    def _fail(self, start: int) -> NoReturn:
        came = repr(self._text[start]) if start < len(self._text) else "the end of the file"
        raise ReadError(
            f"this is not JSON: {self._expected} must come here, but got {came}", *self._at(start)
        )

    def _place(self, offset: int) -> Place:
        return Place(*self._at(offset))

    def _at(self, offset: int) -> tuple[int, int]:
        # Offsets only grow, so each line break is counted once.
        breaks = self._text.count("\n", self._line_start, offset)
        if breaks:
            self._line += breaks
            self._line_start = self._text.rindex("\n", 0, offset) + 1
        return self._line, offset - self._line_start
