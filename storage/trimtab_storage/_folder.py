"""A folder of plain files: its hash, its size, and getting it onto the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trimtab_storage.errors import ArtifactError


@dataclass(frozen=True)
class FileFacts:
    """One file of a folder; the name is relative to it, with slashes."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class FolderFacts:
    """What a folder holds; the hash is over the sorted pairs of relative name and file hash."""

    sha256: str
    size_bytes: int
    files: int


def facts_of(folder: Path, leave_out: str | None = None) -> FolderFacts:
    """Reads all files of a folder and its subfolders.

    Args:
        folder: An existing folder.
        leave_out: The name of a file at the top that does not count.

    Raises:
        ArtifactError: There is something that is neither a plain file nor a folder.
    """
    return fold(files_in(folder, leave_out))


def files_in(folder: Path, leave_out: str | None = None) -> list[FileFacts]:
    """Reads all files of a folder and its subfolders, and gives them by name; as `facts_of`."""
    named = sorted(_files(folder).items())
    return [_facts(name, path) for name, path in named if name != leave_out]


def fold(files: Iterable[FileFacts]) -> FolderFacts:
    """Gives the facts of a folder from those of its files, which come by name."""
    total = hashlib.sha256()
    size = count = 0
    for file in files:
        total.update(f"{file.name}\0{file.sha256}\n".encode())
        size += file.size_bytes
        count += 1
    return FolderFacts(total.hexdigest(), size, count)


def _facts(name: str, path: Path) -> FileFacts:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFacts(name, digest, os.fstat(file.fileno()).st_size)


def _files(folder: Path) -> dict[str, Path]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactError(f"an artifact must hold plain files only, but {path} is none")
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path
    return found


def sync_tree(folder: Path) -> None:
    """Makes all files and folders below and including `folder` survive a power loss."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)


def sync_file(path: Path) -> None:
    """Writes a file's content out to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Writes a folder's list of names out to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
