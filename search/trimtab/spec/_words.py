"""The small words of messages: how a value is shown, which name was meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trimtab.spec.errors import KeyPath

_SHOWN_CHARACTERS = 60


def show(value: Any) -> str:
    """Writes a value as its author wrote it, cut to a length that fits in a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"`{_shorten(value)}`" if value.strip() else "an empty text"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of very many digits"  # which Python may refuse to print
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    if isinstance(value, int | float):
        return str(value)
    return f"a value of type {type(value).__name__}"


def _shorten(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: _SHOWN_CHARACTERS + 1])
    return text_cut(printable, _SHOWN_CHARACTERS)


def show_path(path: object) -> str:
    """Writes a path; of a long one the end, which tells most."""
    text = "".join(c if c.isprintable() else " " for c in str(path))
    return f"`{text}`" if len(text) <= 120 else f"`…{text[-119:]}`"


def text_cut(text: str, length: int) -> str:
    """Cuts a text to ``length`` characters, with an ellipsis where something is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def listing(names: Iterable[str]) -> str:
    """Lists names for a message: ```a`, `b`, `c```; of very many only the first."""
    every = list(names)
    shown = ", ".join(f"`{text_cut(name, 40)}`" for name in every[:20])
    return shown if len(every) <= 20 else f"{shown} and {len(every) - 20} more"


def closest(word: str, names: Iterable[str]) -> str | None:
    """Finds the name that was probably meant, regardless of case and dashes."""
    import difflib

    if len(word) > 64:
        return None
    folded = {name.lower().replace("-", "_"): name for name in names}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: object, names: Iterable[str]) -> str | None:
    """Asks for the nearest name, or gives None when nothing is near."""
    nearest = closest(word, names) if isinstance(word, str) else None
    return f"did you mean `{nearest}`?" if nearest else None


def dotted(path: KeyPath) -> str:
    """Writes a path as ``task.text[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{text_cut(part, 64)}"
    return text.removeprefix(".")


def leaf(path: KeyPath) -> str:
    """Names the last part of a path, as the subject of a message: ```flops```, ```text[0]```."""
    start = len(path) - 1
    while start > 0 and isinstance(path[start], int):
        start -= 1
    return f"`{dotted(path[start:])}`" if path else "the spec"
