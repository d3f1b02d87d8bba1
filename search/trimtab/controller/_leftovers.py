"""The files that emits of a study make again: swept of what a killed one left behind.

Emits hold no lease, and several of one study may run at once, under one owner. Each holds a lock
that the system takes back from a killed one; who begins alone sweeps. The lock lies beside the
database, which is on a disk of this machine wherever the models lie.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trimtab_storage import Artifacts, StorageError, Store, database_path


@contextmanager
def files_of_emits(store: Store, study_id: int) -> Iterator[Artifacts]:
    """Gives the files that an emit of a study works with, after a sweep if no other one runs.

    Where nothing can be locked or swept it goes on all the same.
    """
    # Not the owner of the study's own files: its controller must not sweep ours away.
    owner = f"emit-{study_id}"
    files = store.artifact_files(owner)

    def sweep() -> None:
        with suppress(StorageError, OSError):
            store.sweep_files(files)

    with _lock_shared(Path(f"{database_path(store.url)}-{owner}.lock"), sweep):
        yield files


@contextmanager
def _lock_shared(lock: Path, when_alone: Callable[[], None]) -> Iterator[None]:
    """Holds a lock together with others; who finds itself alone does something before the others.

    The last one removes the file.
    """
    try:
        descriptor = _opened(lock, when_alone)
    except OSError:  # as on a file system without locks
        yield
        return
    try:
        yield
    finally:
        if _is_alone(descriptor):
            with suppress(OSError):  # an empty file is no reason to fail
                lock.unlink()
        os.close(descriptor)  # which unlocks it


def _opened(lock: Path, when_alone: Callable[[], None]) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if _is_alone(descriptor):
                when_alone()
            # Waits while another one is alone. Whoever comes between finds nothing of ours yet.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_there(descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_alone(descriptor: int) -> bool:
    """Tells whether nobody else holds the lock; if so all others wait, else ours is lost."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _is_there(descriptor)
    return False


def _is_there(descriptor: int) -> bool:
    """Tells whether the file still has its name: the last one may have removed it meanwhile."""
    return os.fstat(descriptor).st_nlink > 0
