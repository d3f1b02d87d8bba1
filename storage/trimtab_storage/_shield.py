"""Keeps Ctrl-C out of transactions.

Python raises `KeyboardInterrupt` between any two instructions of the main thread, also where a
connection has just left the pool or a transaction has just begun, and nobody knows yet that it has
to be ended. The database would stay locked for as long as the process lives, and saving what is to
be saved before it ends would wait for that lock. So signals wait for the end of a transaction.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back until the end, and then lets them do what they do.

    Only the main thread is ever interrupted by a signal, so in others there is nothing to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    # A handler that was not set from Python reads as None, and could not be put back.
    before = {each: old for each in _SIGNALS if (old := signal.getsignal(each)) is not None}
    try:
        for each in before:
            signal.signal(each, note)
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)
        for number in came:
            signal.raise_signal(number)
