"""The thread that keeps the lease of a study, beside who holds one and whether they still live."""

from __future__ import annotations

import threading
from collections.abc import Callable

from trimtab._owners import is_dead as is_dead
from trimtab._owners import this_owner as this_owner
from trimtab_storage import LeaseLostError, StorageError

LEASE_TTL_S = 60.0
RENEWALS_PER_TTL = 4


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
