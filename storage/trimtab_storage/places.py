"""Where artifact files lie: in the folder beside the database, or in a place given by a URL.

What a place may be is decided here, without opening it; `remote` does the work.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from trimtab_storage.artifacts import StoredFile
from trimtab_storage.errors import StorageError

PACKAGES = {"file": "fsspec", "s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "memory": "fsspec"}
"""The protocols that are allowed, and what fsspec needs for each."""

_MARK = "://"
_SEGMENT = re.compile(r"[\w.@+=-]+", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTAINER = re.compile(r"[a-z0-9][a-z0-9-]*(@[a-z0-9][a-z0-9.-]*)?")


class Artifacts(Protocol):
    """What stores and workers ask of artifact files, wherever they lie; can be pickled.

    An artifact is there completely or not at all, and is named by its key.
    """

    @property
    def owner(self) -> str:
        """Whose leftovers a sweep takes; all processes that work for one study have one owner."""

    def path(self, key: str) -> Path:
        """Gives the local folder of an artifact.

        Where files lie elsewhere they are brought here first, and compared with what was saved.

        Raises:
            PlaceError: It could not be brought here as it was saved.
        """

    def exists(self, key: str) -> bool:
        """Tells whether an artifact is there; it is then complete."""

    def verify(self, key: str, sha256: str) -> bool:
        """Tells whether an artifact's files are there and are those of that hash.

        Of files elsewhere it looks at what they were saved as, and at the size of each; their
        contents are compared when `path` brings them.
        """

    def save(self, key: str, write: Callable[[Path], None]) -> StoredFile:
        """Saves what `write` puts into the empty folder it is given; it appears in one piece."""

    def remove(self, key: str) -> None:
        """Removes an artifact's files, at once for all who look; nothing if there are none."""

    def sweep(self, known: Callable[[str], bool]) -> int:
        """Removes what this owner left behind when it was killed; gives how much."""

    def has_room(self, n_bytes: float) -> bool:
        """Tells whether so much may still be saved; where nobody can tell, it may."""


def is_url(path: str) -> bool:
    """Tells whether an artifact's path is a URL, and not one below the folder of all."""
    return _MARK in path


def protocol_of(url: str) -> str:
    """Gives the protocol of a URL that was checked."""
    return url.partition(_MARK)[0]


def folder_of(url: str) -> Path | None:
    """Gives the folder that a URL names; None if it names none of any machine."""
    return Path(url.partition(_MARK)[2]) if protocol_of(url) == "file" else None


def root_of(path: str) -> str:
    """Gives the root of all artifacts from the URL of one; see `relative_path`."""
    return path.rsplit("/", 2)[0]


def checked_place(url: str) -> str:
    """Gives the URL of a place in its one spelling, without a slash at the end.

    Raises:
        StorageError: It is no URL, of a protocol that is not allowed, or says more than where
            the place is. What might be a password is not repeated.
    """
    protocol, mark, rest = url.partition(_MARK)
    protocol, rest = protocol.lower(), rest.rstrip("/")
    if not mark:
        raise StorageError(
            "a place for artifacts must be a URL such as s3://bucket/prefix or file:///folder, "
            f"got one without {_MARK}"
        )
    if protocol not in PACKAGES:
        raise StorageError(
            "a place for artifacts must begin with file://, s3://, gs:// or abfs://, "
            f"got {protocol[:20]}://"
        )
    if not _is_plain(protocol, rest):
        raise StorageError(
            f"a place for artifacts must be no more than {_form_of(protocol)}, of letters, digits "
            "and _ . @ + = -; credentials belong in the environment, or where "
            f"{PACKAGES[protocol]} is configured"
        )
    return f"{protocol}{_MARK}{rest}"


def _is_plain(protocol: str, rest: str) -> bool:
    if protocol == "file":
        names = rest.split("/")
        # What fsspec or a URL gives a meaning to cannot be a part of a folder's name.
        odd = set(rest) & set("*?[]{}#\\\0\n") or "::" in rest or unquote(rest) != rest
        return rest.startswith("/") and ".." not in names and not odd
    bucket, *segments = rest.split("/")
    first = _CONTAINER if protocol == "abfs" else _BUCKET
    return bool(first.fullmatch(bucket)) and all(
        _SEGMENT.fullmatch(name) and name not in (".", "..") for name in segments
    )


def _form_of(protocol: str) -> str:
    return {
        "file": "file:///folder",
        "abfs": "abfs://container/prefix",
    }.get(protocol, f"{protocol}://bucket/prefix")
