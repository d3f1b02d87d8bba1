"""How the process that holds a study is named: ``host#place/number@started``.

A process number says something only where the process can be seen. Containers may share a host
name and a database but not their processes, so ``place`` stands for the kernel that is running and
for the namespace of numbers in it. It is left out where neither can be read, and in databases of
older versions.

Nothing here takes time to import, so that those who only look can share it.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

BOOT_ID, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def this_owner() -> str:
    """Names this process so that it cannot be mistaken for a later one with the same number."""
    return f"{_here()}/{_process_name(os.getpid())}"


def owner_process(owner: str) -> tuple[str, int] | None:
    """Reads the host and the process number of an owner; None where it names neither."""
    place, _, process = owner.rpartition("/")
    host, number = place.partition("#")[0], process.partition("@")[0]
    return (host, int(number)) if host and number.isdecimal() else None


def is_dead(owner: str) -> bool:
    """Tells whether the owner certainly runs no more."""
    return is_alive(owner) is False


def is_alive(owner: str) -> bool | None:
    """Tells whether the owner runs; None where that cannot be seen from here.

    Nothing is seen of another machine, nor of another container. An owner without a place is taken
    by its host's name, as there is nothing better.
    """
    known = owner_process(owner)
    place, _, process = owner.rpartition("/")
    if known is None or place not in (_here(), socket.gethostname()):
        return None
    import psutil

    try:
        is_over = psutil.Process(known[1]).status() == psutil.STATUS_ZOMBIE
        return not is_over and _process_name(known[1]) == process
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return None


def _process_name(number: int) -> str:
    import psutil

    # Counted from the boot: the time of day at which it started moves when the clock is set.
    started_s = psutil.Process(number).create_time() - psutil.boot_time()
    return f"{number}@{started_s:.2f}"


def _here() -> str:
    try:
        told = f"{BOOT_ID.read_text().strip()} {os.stat(NAMESPACE).st_ino}"
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}#{hashlib.sha256(told.encode()).hexdigest()[:8]}"
