"""Small pieces of HTML that stand alone: no scripts, no style sheet, no network.

Every text is escaped and put on one line, wherever it came from.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from trimtab._wording import one_line

BLOCK = "font-family:sans-serif;font-size:13px;line-height:1.45;max-width:60em"
CELL = "padding:1px 12px 1px 0;vertical-align:top;text-align:"
PICTURE = "display:block;max-width:100%;margin:6px 0"


def safe(text: str) -> str:
    """Gives a text as it may stand in HTML, also within an attribute."""
    return escape(one_line(text))


def block(title: str, parts: Callable[[], Iterable[str]]) -> str:
    """Gives the parts under a title; where one cannot be had, what went wrong in their place."""
    try:
        inside = "\n".join(parts())
    except Exception as error:  # Whatever it is: nobody who looks at a value asked for an error.
        inside = paragraph(message(error))
    return f'<div style="{BLOCK}">\n<b>{safe(title)}</b>\n{inside}\n</div>'


def message(error: Exception) -> str:
    """Gives what an error says, or its name where it says nothing."""
    return str(error) or type(error).__name__


def paragraph(text: str, command: str = "") -> str:
    """Gives a line of text, with what may be copied from it at its end."""
    code = f" <code>{safe(command)}</code>" if command else ""
    return f'<p style="margin:2px 0">{safe(text)}{code}</p>'


def facts(told: Mapping[str, Any]) -> str:
    """Gives names and values, one a line."""
    return table((), [[name, str(value)] for name, value in told.items()])


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> str:
    """Gives a table; columns named in ``right`` hold numbers. Without columns it has no head."""
    sides = ["right" if name in right else "left" for name in columns] or ["left", "left"]

    def line(cells: Sequence[str], tag: str) -> str:
        drawn = [
            f'<{tag} style="{CELL}{side}">{safe(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        ]
        return f"<tr>{''.join(drawn)}</tr>"

    head = [line(columns, "th")] if columns else []
    return "\n".join(["<table>", *head, *(line(row, "td") for row in rows), "</table>"])


def image(svg: str, alt: str) -> str:
    """Gives an SVG as an image, in which nothing can reach out of it."""
    source = base64.b64encode(svg.encode()).decode()
    return f'<img style="{PICTURE}" alt="{safe(alt)}" src="data:image/svg+xml;base64,{source}">'
