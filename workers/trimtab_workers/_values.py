"""Checks of single columns: text must be text, classes must be classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trimtab_workers.errors import DataError

MEASURED = re.compile(r"[+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")


def checked_text(shown: str, column: str, values: Sequence[Any]) -> list[str]:
    """Gives the column back when every value is text with something in it.

    Raises:
        DataError: A value is missing, blank or not text; rows are counted from 1.
    """
    blank = [row for row, value in enumerate(values, 1) if _is_blank(value)]
    if blank:
        raise DataError(_gaps(shown, column, "text", blank, len(values)))
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise DataError(
                f"{shown}: column {column!r} must hold text, but row {row} holds "
                f"{type(value).__name__} {value}; write it as a string"
            )
    return list(values)


def checked_labels(shown: str, column: str, values: Sequence[Any]) -> list[str]:
    """Gives the classes back as text.

    Raises:
        DataError: A value is missing, blank, true or false, a fraction, or no label at all.
    """
    blank = [row for row, value in enumerate(values, 1) if _is_blank(value)]
    if blank:
        raise DataError(_gaps(shown, column, "label", blank, len(values)))
    for row, value in enumerate(values, 1):
        _check_label(shown, column, row, value)
    labels = [str(value) for value in values]
    _refuse_measurements(shown, column, labels)
    return labels


def are_whole(labels: Sequence[str]) -> bool:
    """Whether every label reads as a whole number, as `1` and `1.0` do and `01` does not."""
    return all(WHOLE.fullmatch(label) for label in labels)


def as_classes(labels: Sequence[str], *, whole: bool) -> list[int | str]:
    """Brings labels to one kind, so that `1`, `"1"` and `1.0` are one class in every format.

    Args:
        labels: Labels as text.
        whole: Whether the training labels are whole numbers; a label that is none stays text.
    """
    if not whole:
        return list(labels)
    return [int(number[1]) if (number := WHOLE.fullmatch(text)) else text for text in labels]


def _check_label(shown: str, column: str, row: int, value: Any) -> None:
    if isinstance(value, float) and not value.is_integer():
        raise DataError(
            f"{shown}: column {column!r} must hold classes (text or whole numbers), but row {row} "
            f"holds {value}; only classification is built, so round or bin the numbers"
        )
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DataError(
            f"{shown}: column {column!r} must hold classes (text or whole numbers), but row {row} "
            f"holds {type(value).__name__} {value}; write 0 and 1, or the name of the class"
        )


def _refuse_measurements(shown: str, column: str, labels: Sequence[str]) -> None:
    """A text file's labels may all be numbers and not all whole: then they are no classes."""
    if all(MEASURED.fullmatch(label) for label in labels):
        for row, label in enumerate(labels, 1):
            _check_label(shown, column, row, float(label))


def _is_blank(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _gaps(shown: str, column: str, what: str, rows: Sequence[int], total: int) -> str:
    return (
        f"{shown}: column {column!r} must hold {what} in every row, but {len(rows)} of {total} "
        f"are empty (first: row {rows[0]}, the header not counted); fill or drop them"
    )
