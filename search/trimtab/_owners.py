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


def owner_name(number: int, started_s: float) -> str:
    """Names a process that can be seen from here, by when it started after the boot."""
    return f"{_here()}/{number}@{started_s:.2f}"


def owner_process(owner: str) -> tuple[str, int] | None:
    """Reads the host and the process number of an owner; None where it names neither."""
    place, _, process = owner.rpartition("/")
    host, number = place.partition("#")[0], process.partition("@")[0]
    return (host, int(number)) if host and number.isdecimal() else None


def seen_from_here(owner: str) -> int | None:
    """Gives the number of an owner's process if it can be seen from here, or could be if it ran.

    An owner without a place is taken by its host's name, as there is nothing better.
    """
    known = owner_process(owner)
    is_seen = owner.rpartition("/")[0] in (_here(), socket.gethostname())
    return known[1] if known is not None and is_seen else None


def is_named(owner: str, number: int, started_s: float) -> bool:
    """Tells whether an owner that is seen from here is this process."""
    return owner.rpartition("/")[2] == owner_name(number, started_s).rpartition("/")[2]


def _here() -> str:
    try:
        told = f"{BOOT_ID.read_text().strip()} {os.stat(NAMESPACE).st_ino}"
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}#{hashlib.sha256(told.encode()).hexdigest()[:8]}"
