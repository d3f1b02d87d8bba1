"""Who holds a study's lease, whether they still live, and the thread that keeps ours alive."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import psutil

LEASE_TTL_S = 60.0
RENEWALS_PER_TTL = 4


def this_owner() -> str:
    """Names this process so that it cannot be mistaken for a later one with the same number."""
    return _owner(psutil.Process())


def is_dead(owner: str) -> bool:
    """Tells whether the owner certainly runs no more; of another host nothing is certain."""
    host, _, rest = owner.rpartition("/")
    pid = rest.partition("@")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return _owner(psutil.Process(int(pid))) != owner
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _owner(process: psutil.Process) -> str:
    return f"{socket.gethostname()}/{process.pid}@{process.create_time():.2f}"


class LeaseKeeper:
    """Renews a lease in the background until stopped; remembers if it could not.

    A thread of its own, because with the inline executor the controller computes for minutes.
    """

    def __init__(self, renew: Callable[[], None], ttl_s: float) -> None:
        self._renew, self._pause_s = renew, ttl_s / RENEWALS_PER_TTL
        self._stopped = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="trimtab-lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_s):
            try:
                self._renew()
            except Exception as error:
                self.error = error
                return

    def stop(self) -> None:
        """Ends the renewals; may be called again."""
        self._stopped.set()
        self._thread.join(timeout=self._pause_s + 1)
