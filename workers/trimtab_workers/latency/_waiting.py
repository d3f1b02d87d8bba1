"""How long the threads of this process were ready to run while others had the processors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")

Waits = Callable[[], float]
"""Gives seconds that have been waited so far, all threads together."""


def find_waits(device_type: str) -> Waits | None:
    """Finds what this system can tell of waiting: Linux counts it for every thread.

    It is the cause itself. Slow and scattered times are only what comes of it, and a busy neighbour
    on every processor makes times slow without scattering them. Elsewhere, what the calling thread
    did not compute counts as waiting: during a request on the CPU it has nothing else to do.
    """
    if _is_counted():
        return counted_waits_s
    return _idle_s if device_type == "cpu" else None


def counted_waits_s() -> float:
    """Adds up what the kernel counted for each thread that is there now."""
    waited_ns = 0
    for task in os.listdir(TASKS):
        with suppress(OSError):  # a thread may have ended since
            waited_ns += int((TASKS / task / "schedstat").read_text().split()[1])
    return waited_ns / 1e9


def _is_counted() -> bool:
    """Tells whether there are such counts; a kernel that keeps none shows zeros, or no file."""
    try:
        return int((TASKS.parent / "schedstat").read_text().split()[0]) > 0
    except (OSError, IndexError, ValueError):
        return False


def _idle_s() -> float:
    return time.perf_counter() - time.thread_time()
