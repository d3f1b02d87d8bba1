"""Folders that were brought here from elsewhere, named by the hash of what is in them.

Named so, one can be old but never wrong, and processes, studies and places share them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from trimtab_storage.artifacts import OWNER_FILE, ArtifactFiles, place_errors
from trimtab_storage.errors import PlaceError

FOLDER_VARIABLE, LIMIT_VARIABLE = "TRIMTAB_CACHE", "TRIMTAB_CACHE_GB"
LIMIT_GB = 20.0
IN_USE_S = 600.0
"""A folder is given away to be read at once, so after that long nobody is about to open it."""
_LOST_S = 24 * 3600.0


@dataclass(frozen=True)
class Cache:
    """A folder of this machine that its processes share; the longest unused go when it is full."""

    root: Path
    limit_bytes: float

    @classmethod
    def here(cls) -> Cache:
        """Gives this machine's own, as its environment says; not to be sent elsewhere.

        Raises:
            PlaceError: The user has no home, and somebody else took the name in the temporary
                folder.
        """
        root = os.environ.get(FOLDER_VARIABLE) or _user_folder()
        return cls(Path(root).absolute() / "artifacts", _limit_gb() * 2**30)

    @property
    def _files(self) -> ArtifactFiles:
        return ArtifactFiles(self.root, "cache")

    def scratch(self) -> AbstractContextManager[Path]:
        """Gives an empty folder that is removed at the end, from which `take` moves."""
        # Nobody else's business what a user's models are.
        with place_errors(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._files.scratch()

    def folder(self, sha256: str, fill: Callable[[Path], None]) -> Path:
        """Gives the folder of that hash, filled first if it is not here, or no longer sound."""
        with place_errors(self.root):
            if not self._files.verify(sha256, sha256):
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._files.save(sha256, fill)
                self._make_room()
            folder = self._files.path(sha256)
            os.utime(folder / OWNER_FILE)
        return folder

    def take(self, sha256: str, folder: Path) -> None:
        """Moves the files of a scratch folder in under their hash."""

        def move(target: Path) -> None:
            for path in list(folder.iterdir()):
                path.rename(target / path.name)

        with place_errors(self.root):
            self._files.save(sha256, move)
            self._make_room()

    def forget(self, sha256: str) -> None:
        """Removes a folder, if it is here."""
        with place_errors(self.root):
            self._files.remove(sha256)

    def _make_room(self) -> None:
        now = time.time()
        kept = sorted(self._kept())
        total = sum(size for _, size, _ in kept)
        for used, size, folder in kept:
            if total <= self.limit_bytes or now - used < IN_USE_S:
                break
            self._files.remove(folder.name)
            total -= size
        for folder in (self.root / "tmp").glob("*"):
            with suppress(OSError):
                if now - folder.stat().st_mtime > _LOST_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def _kept(self) -> Iterator[tuple[float, int, Path]]:
        for note in self.root.glob(f"[0-9a-f][0-9a-f]/*/{OWNER_FILE}"):
            # Another process may remove it meanwhile.
            with suppress(OSError):
                size = sum(path.stat().st_size for path in note.parent.rglob("*"))
                yield note.stat().st_mtime, size, note.parent


def _user_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "trimtab"
    try:
        folder = Path.home() / ".cache" / "trimtab"
    except RuntimeError:
        return _temporary_folder()
    # Containers often name a home that is not there, or one that belongs to root.
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return folder if os.access(there, os.W_OK) else _temporary_folder()


def _temporary_folder() -> Path:
    user = os.getuid()
    folder = Path(tempfile.gettempdir()) / f"trimtab-{user}"
    with place_errors(folder), suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Anybody may make a folder there, and would then see and could change what is in ours.
    if folder.is_symlink() or folder.stat().st_uid != user:
        raise PlaceError(
            f"a cache for artifacts must belong to whoever uses it, but {folder} is another "
            f"user's: set {FOLDER_VARIABLE} to a folder of your own"
        )
    return folder


def _limit_gb() -> float:
    try:
        return float(os.environ[LIMIT_VARIABLE])
    except (KeyError, ValueError):
        return LIMIT_GB
