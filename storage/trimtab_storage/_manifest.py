"""What an artifact that lies elsewhere consists of; pure, but for reading a local folder."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trimtab_storage._folder import FileFacts, files_in, fold
from trimtab_storage.artifacts import OWNER_FILE

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UPLOAD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*-[0-9a-f]{32}")
_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """The files of one artifact, by name, and the folder that they were uploaded to."""

    key: str
    upload: str
    files: tuple[FileFacts, ...]

    @property
    def sha256(self) -> str:
        """The hash over all names and contents, the same as a local folder's."""
        return fold(self.files).sha256

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return fold(self.files).size_bytes

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each file."""
        return {file.name: file.size_bytes for file in self.files}

    def to_bytes(self) -> bytes:
        """Writes it as JSON, with the hash over all files."""
        value = {"version": _VERSION, "sha256": self.sha256, **asdict(self)}
        return json.dumps(value, indent=1).encode()

    def difference(self, folder: Path) -> str | None:
        """Says what of a local folder is not as it was saved; None if all is."""
        wanted = {file.name: file for file in self.files}
        found = {file.name: file for file in files_in(folder)}
        for name in sorted(wanted | found):
            if wanted.get(name) != found.get(name):
                return _told(name, wanted.get(name), found.get(name))
        return None


def read_manifest(data: bytes, key: str) -> Manifest | None:
    """Reads the manifest of an artifact; None if it is damaged, or not that artifact's.

    It comes from elsewhere, so names that would lead out of a folder count as damage.
    """
    try:
        value = json.loads(data)
        files = tuple(_file(each) for each in value["files"])
        manifest = Manifest(value["key"], value["upload"], files)
        sound = (
            value["version"] == _VERSION
            and manifest.key == key
            and _UPLOAD.fullmatch(manifest.upload) is not None
            and len(files) == len(manifest.sizes) > 0
            and manifest.sha256 == value["sha256"]
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return manifest if sound else None


def _file(value: dict[str, Any]) -> FileFacts:
    file = FileFacts(value["name"], value["sha256"], value["size_bytes"])
    path = PurePosixPath(file.name)
    if path.as_posix() != file.name or path.is_absolute() or ".." in path.parts:
        raise ValueError("a name must stay within its folder")
    if not file.name or "\\" in file.name or "\0" in file.name or file.name in (".", OWNER_FILE):
        raise ValueError("a name must be a plain one")
    if not _SHA256.fullmatch(file.sha256) or type(file.size_bytes) is not int:
        raise ValueError("a file must have a hash and a size")
    return file


def _told(name: str, wanted: FileFacts | None, found: FileFacts | None) -> str:
    if found is None:
        return f"{name} is missing"
    if wanted is None:
        return f"{name} was not saved with it"
    if wanted.size_bytes != found.size_bytes:
        return f"{name} has {found.size_bytes} of {wanted.size_bytes} bytes"
    return f"{name} has other contents"
