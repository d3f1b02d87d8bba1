"""How numbers, times and commands are written wherever people read them.

Nothing here takes time to import, so that the command line and notebooks can share it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

DEFAULT_DB = "sqlite:///trimtab.db"
_FILE = "sqlite:///"


def percent(value: float) -> str:
    """Writes a ratio: ``45.2%``."""
    return f"{100 * value:.1f}%"


def points(value: float) -> str:
    """Writes a drop in points: ``+0.40 pt`` is worse."""
    return f"{100 * value:+.2f} pt"


def big(value: float) -> str:
    """Writes FLOPs or a count shortly: ``1.24 G``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # From 999.5 on, three figures round up to the next letter.
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Writes a time shortly: ``3 min 20 s``."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def one_line(text: str) -> str:
    """Writes a text that may come from anywhere on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def replay_command(study: str, number: int, db: str) -> str:
    """Writes the command that runs a trial again, to be pasted into a shell in this folder.

    A database that is no file goes without saying: its URL may hold a password.
    """
    words = ["trimtab", "trials", study, "--replay", str(number)]
    if db.startswith("sqlite") and _file(db) != _file(DEFAULT_DB):
        words += ["--db", db]
    return shlex.join(words)


def _file(db: str) -> Path:
    return Path(db.removeprefix(_FILE)).absolute()
