"""Artifact files: folders that are there completely or not at all.

A folder is written under `tmp/`, synced, and renamed into place last, so a finished one is whole
whatever was killed when. It is named by the artifact's key: `root/ab/abcdef…/`.

This module needs neither a database nor SQLAlchemy: worker processes save, the controller records.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trimtab_storage._folder import (
    FileFacts,
    FolderFacts,
    facts_of,
    files_in,
    fold,
    sync_folder,
    sync_tree,
)
from trimtab_storage.errors import (
    ArtifactError,
    DiskFullError,
    InvalidValueError,
    PlaceError,
    StorageError,
)

OWNER_FILE = "owner.json"
_TMP = "tmp"
_PROBE_BYTES = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEY = re.compile(r"[0-9a-f]{4,128}")
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]*")


@dataclass(frozen=True)
class StoredFile:
    """The facts of a saved artifact; `path` is relative to the artifact root, or a URL."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ArtifactFiles:
    """The artifact files under one root; a plain value that may be sent to worker processes.

    Attributes:
        root: The folder of all artifacts.
        owner: Who may clean up what is left: give all processes that work for one study the same
            owner, and no other process, since a sweep takes what that owner left behind.
    """

    root: Path
    owner: str

    def __post_init__(self) -> None:
        check_owner(self.owner)

    def path(self, key: str) -> Path:
        """Gives the folder of an artifact, whether it is there or not."""
        return self.root / relative_path(key)

    def exists(self, key: str) -> bool:
        """Tells whether an artifact's folder is there; it is then complete."""
        return self.path(key).is_dir()

    def verify(self, key: str, sha256: str) -> bool:
        """Tells whether an artifact's files are there and are those of that hash."""
        folder = self.path(key)
        return folder.is_dir() and facts_of(folder, leave_out=OWNER_FILE).sha256 == sha256

    def save(self, key: str, write: Callable[[Path], None]) -> StoredFile:
        """Saves an artifact; when it returns, the files survive a crash.

        Args:
            key: Names the artifact.
            write: Writes the files into the empty folder it is given.

        Returns:
            The facts of what is in place: if an undamaged folder is there already, that one's.

        Raises:
            ArtifactError: `write` left no files, or others than plain ones.
            PlaceError: The folder of all artifacts cannot be used.
            DiskFullError: There was no room; nothing is left behind.
        """
        target = self.path(key)
        with self.scratch() as folder:
            write(folder)
            # What `write` raises is its own; from here on only the place can fail.
            with place_errors(self.root):
                facts = self._seal(folder, key)
                kept = self._move(folder, target, facts)
        return StoredFile(target.relative_to(self.root).as_posix(), kept.sha256, kept.size_bytes)

    def remove(self, key: str) -> None:
        """Removes an artifact's files, at once for all who look; nothing if there are none."""
        self._discard(self.path(key))

    def sweep(self, known: Callable[[str], bool]) -> int:
        """Removes what this owner left behind when it was killed; gives how many folders.

        Call it when nobody works for this owner. Removed are unfinished folders, and finished
        ones that were never recorded.

        Args:
            known: Whether the database has the artifact of a key with a path.
        """
        left = [*self._unfinished(), *(f for f in self._finished() if not known(f.name))]
        for folder in left:
            self._discard(folder)
        return len(left)

    def _seal(self, folder: Path, key: str) -> FolderFacts:
        facts = fold(written_files(folder, key))
        note = {"owner": self.owner, "key": key, "sha256": facts.sha256, "bytes": facts.size_bytes}
        (folder / OWNER_FILE).write_text(json.dumps(note), encoding="utf-8")
        sync_tree(folder)
        return facts

    def _move(self, folder: Path, target: Path, facts: FolderFacts) -> FolderFacts:
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(self.root.parent)
        sync_folder(self.root)
        while not _renamed(folder, target):
            there = _undamaged(target)
            if there is not None:
                return there
            self._discard(target)
        sync_folder(target.parent)
        return facts

    def has_room(self, n_bytes: float) -> bool:
        """Tells whether so much may still be saved.

        Tried, and not only asked, since a quota may be used up where the disk is not.

        Raises:
            PlaceError: The folder of all artifacts cannot be used.
        """
        try:
            with self.scratch() as folder, place_errors(self.root):
                if shutil.disk_usage(folder).free < n_bytes:
                    return False
                with (folder / "probe").open("wb") as probe:
                    probe.write(bytes(_PROBE_BYTES))
                    _reserve(probe.fileno(), int(n_bytes))
                    os.fsync(probe.fileno())
                return True
        except DiskFullError:
            return False

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Gives an empty folder on the file system of the root, and removes it at the end.

        Raises:
            DiskFullError: There was no room for what was done with it.
            PlaceError: It could not be made.
        """
        folder = self._fresh_name()
        try:
            with place_errors(self.root):
                folder.mkdir(parents=True)
            yield folder
        except OSError as error:
            if error.errno in _FULL:
                raise _blamed(self.root, error) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fresh_name(self) -> Path:
        return self.root / _TMP / f"{self.owner}-{uuid.uuid4().hex}"

    def _discard(self, folder: Path) -> None:
        # Renamed first, so that nobody ever sees a finished folder with some files missing.
        doomed = self._fresh_name()
        doomed.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(doomed)
        except FileNotFoundError:
            return
        sync_folder(folder.parent)
        shutil.rmtree(doomed, ignore_errors=True)

    def _unfinished(self) -> list[Path]:
        # The rest of the name has no dash, so `a` does not take the folders of `a-b`.
        folders = (self.root / _TMP).glob("*-*")
        return [folder for folder in folders if folder.name.rpartition("-")[0] == self.owner]

    def _finished(self) -> list[Path]:
        notes = self.root.glob(f"[0-9a-f][0-9a-f]/*/{OWNER_FILE}")
        return [note.parent for note in notes if _note(note.parent).get("owner") == self.owner]


@contextmanager
def place_errors(root: Path) -> Iterator[None]:
    """Lets what the file system of a folder refuses be known as the fault of the place.

    Raises:
        DiskFullError: There was no room.
        PlaceError: It refused anything else.
    """
    try:
        yield
    except OSError as error:
        raise _blamed(root, error) from error


def _blamed(root: Path, error: OSError) -> StorageError:
    if error.errno in _FULL:
        return DiskFullError(
            f"nothing was saved under {root}, because the disk is full: make room and try again"
        )
    return PlaceError(
        f"artifact files under {root} could not be read or written ({error}): "
        "mend that and try again"
    )


def check_owner(owner: str) -> None:
    """Refuses an owner that could not be a part of a file's name."""
    if not _OWNER.fullmatch(owner):
        raise InvalidValueError(
            f"an owner of artifact files must be letters, digits and _ . : @ + -, got {owner!r}"
        )


def relative_path(key: str) -> str:
    """Gives where an artifact lies below the root of all, such as `ab/abcdef`."""
    if not _KEY.fullmatch(key):
        raise InvalidValueError(
            f"an artifact's key must be 4 to 128 hexadecimal digits in lower case, got {key!r}"
        )
    return f"{key[:2]}/{key}"


def written_files(folder: Path, key: str) -> list[FileFacts]:
    """Gives what was written for an artifact, by name.

    Raises:
        ArtifactError: There are no files, others than plain ones, or one that is ours to write.
    """
    if (folder / OWNER_FILE).exists():
        raise ArtifactError(f"an artifact must not bring a file {OWNER_FILE} of its own")
    files = files_in(folder)
    if not files:
        raise ArtifactError(f"an artifact must have files, but none were written for {key}")
    return files


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Takes up room for a file without writing it, where the system can do that."""
    if not hasattr(os, "posix_fallocate"):  # as on macOS
        return
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError as error:
        if error.errno in _FULL:
            raise


def _renamed(folder: Path, target: Path) -> bool:
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _undamaged(folder: Path) -> FolderFacts | None:
    """Gives the facts of a finished folder, or None if it is not what its note says, or gone."""
    try:
        facts = facts_of(folder, leave_out=OWNER_FILE)
    except (FileNotFoundError, ArtifactError):
        return None
    return facts if _note(folder).get("sha256") == facts.sha256 else None


def _note(folder: Path) -> dict[str, object]:
    try:
        note = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
