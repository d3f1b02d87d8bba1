"""Single values of an untrusted configuration: exact types, finite, bounded, told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trimtab_workers.errors import ModelError

LONGEST_SHOWN = 80


def fail(path: Path, key: str, must: str, value: Any) -> ModelError:
    """Makes the error of a value that is not what it must be; a long one is cut."""
    shown = repr(value)
    shown = shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + "…"
    return ModelError(f"{path}: {key} must be {must}, got {shown}")


def check_whole(low: int, high: int, path: Path, key: str, value: Any) -> None:
    """Refuses what is no whole number within bounds, both included; True is none.

    Raises:
        ModelError: naming the key and what came.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise fail(path, key, f"a whole number from {low} on, at most {high:,}", value)


def check_real(low: float, high: float, path: Path, key: str, value: Any) -> None:
    """Refuses what is no number within bounds, both included; True is none, nor is nan.

    Raises:
        ModelError: naming the key and what came.
    """
    # A comparison with nan is false, and one with a huge whole number is exact.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise fail(path, key, f"a number from {low:g} to {high:g}", value)
