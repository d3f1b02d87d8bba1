"""Where output goes: data to stdout, progress to stderr, and nothing wrong when a reader leaves."""

from __future__ import annotations

import os
import sys
from io import StringIO
from typing import TextIO

from rich.console import Console, RenderableType

ENDLESS = 10_000
"""Columns of output that is no terminal's: more than any line has."""


def put(text: str, stream: TextIO | None = None) -> None:
    """Writes text on stdout, or on another stream.

    A reader that has left, as ``head`` does, changes neither what a command does nor its exit code.
    """
    target = sys.stdout if stream is None else stream
    try:
        target.write(text)
        target.flush()
    except BrokenPipeError:
        _discard(target)


def say(text: str) -> None:
    """Writes a line on stdout."""
    put(f"{text}\n")


def show(what: RenderableType) -> None:
    """Draws a table or the like on stdout; without a terminal it is not cut, padded or coloured."""
    terminal = _Console(markup=False, emoji=False, highlight=False)
    if terminal.is_terminal:
        terminal.print(what)
        return
    drawn = StringIO()
    Console(file=drawn, width=ENDLESS, color_system=None, markup=False, emoji=False).print(what)
    put("\n".join(line.rstrip() for line in drawn.getvalue().split("\n")))


def progress_console(*, quiet: bool) -> Console:
    """Gives a console on stderr."""
    return _Console(stderr=True, markup=False, emoji=False, highlight=False, quiet=quiet)


class _Console(Console):
    """A console that falls silent when its reader leaves, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _discard(self.file)


def _discard(stream: object) -> None:
    """Lets what is written from now on go nowhere, the rest of the buffer included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
    os.close(nowhere)
