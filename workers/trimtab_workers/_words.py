"""Small words for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Gives `"; did you mean 'x'?"` for the nearest option, or nothing when none is near."""
    by_folded = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""


def listed(values: Iterable[object], most: int = 10) -> str:
    """Quotes values for a message, `most` of them and then a count of the rest."""
    shown = [repr(value) for value in values]
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest


def one_line(error: BaseException, most: int = 300) -> str:
    """The message of a foreign exception, or that of its cause, as one line."""
    text = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return text if len(text) <= most else text[:most] + "…"
