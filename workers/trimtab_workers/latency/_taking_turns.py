"""One timing at a time on a host: runs that know nothing of each other take turns.

Only timing waits for timing. What another run trains meanwhile is noise like any other, which
verdicts have to notice.
"""

from __future__ import annotations

import math
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimtab_workers.executors import WorkerContext

try:
    import fcntl
except ImportError:  # not on this system: then nobody waits
    fcntl = None  # type: ignore[assignment]

MOST_WAIT_S = 60.0
"""How long a turn is waited for; then timing goes on without it, for verdicts to judge."""
WITHOUT_WAITING_S = 600.0
"""How long this process then takes a turn only where it is free: who has it may hang."""
POLL_S = 0.1
STAGE = "waiting for another run that is timing"

_in_vain: dict[Path, float] = {}
"""When a turn was last waited for in vain, on the monotonic clock."""


def turn_file(device_type: str) -> Path:
    """Names the file whose lock is the turn: one for each user and type of device.

    Of the type only, since a worker that sees one accelerator of several calls it the first,
    whichever it is.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"trimtab-{user}-timing-{device_type}.lock"


@contextmanager
def turn_to_time(
    device_type: str, context: WorkerContext, most_wait_s: float = MOST_WAIT_S
) -> Iterator[bool]:
    """Holds the turn for a while, which the system gives back if this process is killed.

    Tells whether it has it. It does not where that took longer than ``most_wait_s``, of which the
    ``context`` is told as of any stage of a job, or where the file cannot be locked. After a wait
    in vain the next timings do not wait, until one found it free or ``WITHOUT_WAITING_S`` passed.
    """
    path = turn_file(device_type)
    descriptor = _opened(path)
    if descriptor is None:
        yield False
        return
    try:
        yield _has_turn(path, descriptor, context, most_wait_s)
    finally:
        os.close(descriptor)  # which unlocks it


def _opened(path: Path) -> int | None:
    """Opens a plain file of our own, never through a link that somebody has laid there.

    Nor one of another user, who could hold its lock for as long as they like.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
        return descriptor
    os.close(descriptor)
    return None


def _has_turn(path: Path, descriptor: int, context: WorkerContext, most_wait_s: float) -> bool:
    """Waits, unless that was in vain a short while ago."""
    since_s = time.monotonic() - _in_vain.get(path, -math.inf)
    wait_s = most_wait_s if since_s >= WITHOUT_WAITING_S else 0.0
    if _has_locked(descriptor, context, wait_s):
        _in_vain.pop(path, None)
        return True
    if wait_s:
        _in_vain[path] = time.monotonic()
    return False


def _has_locked(descriptor: int, context: WorkerContext, most_wait_s: float) -> bool:
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            waited_s = time.monotonic() - began
        except OSError:  # as on some shared file systems
            return False
        if waited_s >= most_wait_s:
            return False
        context.report(STAGE, int(waited_s), max(1, round(most_wait_s)))
        time.sleep(POLL_S)
        context.held_up_s += time.monotonic() - began - waited_s
