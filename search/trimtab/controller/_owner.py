"""Who holds a study's lease, whether they still live, and the thread that keeps ours alive."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil

from trimtab._owners import is_named, owner_name, seen_from_here
from trimtab_storage import LeaseLostError, StorageError

LEASE_TTL_S = 60.0
RENEWALS_PER_TTL = 4


def this_owner() -> str:
    """Names this process so that it cannot be mistaken for a later one with the same number."""
    process = psutil.Process()
    return owner_name(process.pid, _started_s(process))


def is_dead(owner: str) -> bool:
    """Tells whether the owner certainly runs no more.

    Nothing is certain of another machine, nor of another container, whose processes are not seen.
    """
    number = seen_from_here(owner)
    if number is None:
        return False
    try:
        process = psutil.Process(number)
        is_over = process.status() == psutil.STATUS_ZOMBIE
        return is_over or not is_named(owner, number, _started_s(process))
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _started_s(process: psutil.Process) -> float:
    # Counted from the boot: the time of day at which it started moves when the clock is set.
    return float(process.create_time() - psutil.boot_time())


class LeaseKeeper:
    """Renews a lease in the background until stopped; remembers if it was lost.

    A thread of its own, because with the inline executor the controller computes for minutes. A
    database that cannot be written to for a while takes no lease away, so that is tried again.
    """

    def __init__(self, renew: Callable[[], None], ttl_s: float) -> None:
        self._renew, self._pause_s = renew, ttl_s / RENEWALS_PER_TTL
        self._stopped = threading.Event()
        self.error: LeaseLostError | None = None
        self._thread = threading.Thread(target=self._run, name="trimtab-lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_s):
            try:
                self._renew()
            except LeaseLostError as error:
                self.error = error
                return
            except StorageError:
                continue

    def stop(self) -> None:
        """Ends the renewals; may be called again."""
        self._stopped.set()
        self._thread.join(timeout=self._pause_s + 1)
