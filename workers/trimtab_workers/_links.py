"""Links in a folder that somebody else made: they must not lead out of it.

What a model brings is copied into checkpoints that are given away, so a link to a private file
would give that file away as well. The hub's cache is made of links, from `snapshots/REVISION/` into
`blobs/` beside it; those are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def lies_in(folder: Path, file: Path) -> bool:
    """Tells whether a file lies in a folder, or in the hub's cache that the folder is part of."""
    place = file.resolve()
    return any(place.is_relative_to(root) for root in _roots(folder.resolve()))


def _roots(folder: Path) -> Iterator[Path]:
    yield folder
    for parent in (folder, *folder.parents):
        if parent.parent.name == "snapshots":
            yield parent.parent.parent / "blobs"
