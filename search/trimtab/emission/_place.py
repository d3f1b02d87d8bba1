"""How a checkpoint takes its place: written beside it, and renamed when it is whole.

A writer holds a lock on its folder as long as it lives; what a killed one left behind has none, and
is cleared away by the next that writes to the same place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from trimtab.emission._manifest import MANIFEST
from trimtab.errors import InputError, TrimtabError


def check_target(out: Path, force: bool) -> None:
    """Checks that a checkpoint may be written to ``out``.

    Raises:
        InputError: if something is there that may not be replaced.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} must be a folder to write to, but it is a file")
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise InputError(
            f"{out} is not a checkpoint of trimtab (it has no {MANIFEST}), so it is not replaced, "
            "even with --force: name another folder"
        )
    if not force:
        raise InputError(
            f"{out} exists already: name another folder, or pass --force to replace it"
        )


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``out``; it is removed at the end unless it was renamed.

    Raises:
        InputError: if nothing can be written there.
        TrimtabError: if nothing can be written there any more, as when the disk is full.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(out)
        partial, lock = _make_locked(out)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written to ({error.strerror}): name another folder"
        ) from error
    try:
        yield partial
    except OSError as error:
        raise TrimtabError(f"{out} could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _unlock(lock)


def put_in_place(partial: Path, out: Path) -> None:
    """Renames; an old checkpoint stays whole under another name until the new one is there.

    Of several writers each has its turn, and the last one's checkpoint stays.
    """
    _sync(partial)
    while not _is_renamed(partial, out):
        with suppress(FileNotFoundError), _held(out):
            old = out.rename(_beside(out, "old"))
            try:
                is_done = _is_renamed(partial, out)
            except BaseException:
                old.rename(out)
                raise
            _sync_folder(out.parent)
            shutil.rmtree(old, ignore_errors=True)
            if is_done:
                return


def _is_renamed(partial: Path, out: Path) -> bool:
    """Renames unless something is there; an empty folder is replaced."""
    try:
        partial.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    _sync_folder(out.parent)
    return True


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keeps others from taking a folder for a leftover while it has another name."""
    lock = None
    with suppress(BlockingIOError):
        lock = _lock(out)
    try:
        yield
    finally:
        _unlock(lock)


def _beside(out: Path, kind: str) -> Path:
    return out.parent / f".{out.name}.{kind}-{uuid.uuid4().hex[:8]}"


def _make_locked(out: Path) -> tuple[Path, int | None]:
    while True:
        partial = _beside(out, "partial")
        partial.mkdir()
        # Until it is locked, another writer may take it for a leftover.
        with suppress(BlockingIOError, FileNotFoundError):
            return partial, _lock(partial)


def _clear_leftovers(out: Path) -> None:
    """Removes what killed writers left; an old checkpoint whose place is empty goes back there."""
    for kind in ("old", "partial"):
        for folder in out.parent.glob(f".{escape(out.name)}.{kind}-????????"):
            with suppress(BlockingIOError, FileNotFoundError):
                _clear(folder, out, kind)


def _clear(folder: Path, out: Path, kind: str) -> None:
    lock = _lock(folder)
    if lock is None:
        return
    try:
        # Another writer may put its checkpoint there at this moment; then that one stays.
        is_back = kind == "old" and not out.exists() and _is_renamed(folder, out)
        if not is_back:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Locks a folder until the descriptor is closed; None where the file system has no locks.

    Raises:
        BlockingIOError: if another process has the lock.
        FileNotFoundError: if the folder is gone.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
