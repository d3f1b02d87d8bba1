"""What is said about a spec that does not hold.

ValueError
├── FieldError     one value, before it is known where it stands
│   └── UnitError  a quantity without its unit, or with a wrong one
└── SpecErrors     one or many SpecError, each with its place in the file
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN_ERRORS = 20
_SHOWN_COLUMNS = 100

KeyPath = tuple[str | int, ...]


class FieldError(ValueError):
    """One value that does not hold.

    ``message`` is a predicate without its subject ("must be …, but got …"), so that the same words
    serve a key of a file, an option and an argument. ``hint`` says what to do next. ``at`` leads
    from the value that was being checked to the part of it that is wrong, and ``at_key`` tells
    that the key is wrong there, not its value.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, at: KeyPath = (), at_key: bool = False
    ) -> None:
        super().__init__(message if hint is None else f"{message}; {hint}")
        self.message = message
        self.hint = hint
        self.at = at
        self.at_key = at_key


class UnitError(FieldError):
    """A quantity whose number, unit or range is not what must stand there."""


class FieldErrors(ValueError):
    """Several faults found in one value."""

    def __init__(self, faults: Iterable[FieldError]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


@dataclass(frozen=True)
class SpecError:
    """One fault of a spec, with its place.

    ``key`` is the dotted path inside the spec. ``path``, ``line`` and ``col`` (both from 1) are
    None where there is no file or no place in it.
    """

    message: str
    key: str = ""
    path: str | None = None
    line: int | None = None
    col: int | None = None
    source_line: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = self.message if self.hint is None else f"{self.message}; {self.hint}"
        head = f"{self._where}: {text}"
        if self.source_line is None or self.col is None:
            return head
        line, column = _window(self.source_line, self.col - 1)
        return f"{head}\n  {line}\n  {' ' * column}^"

    @property
    def _where(self) -> str:
        if self.path is None:
            return self.key or "spec"
        if self.line is None:
            return self.path
        return f"{self.path}:{self.line}:{self.col}"


class SpecErrors(ValueError):
    """A spec that cannot be used, with every fault found in it, in the order of the file.

    ``str()`` is what the user reads: the faults one below the other.
    """

    def __init__(self, errors: Iterable[SpecError]) -> None:
        self.errors = tuple(errors)
        shown = [str(error) for error in self.errors[:_SHOWN_ERRORS]]
        left_out = len(self.errors) - len(shown)
        if left_out:
            shown.append(f"… and {left_out} more")
        super().__init__("\n".join(shown))


def _window(line: str, column: int) -> tuple[str, int]:
    """Cuts a long source line around ``column`` (from 0) and gives the column in what is left."""
    line = line.replace("\t", " ")
    start = 0 if column < _SHOWN_COLUMNS - 20 else column - _SHOWN_COLUMNS // 2
    return line[start : start + _SHOWN_COLUMNS].rstrip(), column - start
