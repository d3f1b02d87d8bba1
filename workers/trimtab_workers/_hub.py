"""What counts as the name of something on the hub."""

from __future__ import annotations

import re

_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[0-9a-f]{7,40}))?", re.ASCII)


def hub_id(reference: str) -> tuple[str, str | None] | None:
    """Takes `OWNER/NAME[@REVISION]` apart into name and revision; None when it is not one.

    URLs, paths with more than one slash and paths that begin with a dot never are.
    """
    match = _ID.fullmatch(reference)
    return (match["name"], match["revision"]) if match else None
