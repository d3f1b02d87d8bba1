"""Room on the disk: while there is none nothing new begins, and the run goes on by itself.

What had no room is never to blame. A job is sent out again once there seems to be room for it; a
write of the database failed as a whole, so it is simply done again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from trimtab_storage import ArtifactFiles, Artifacts, DiskFullError, PlaceError, Store

T = TypeVar("T")

LOOK_EVERY_S = 5.0
POLL_S = 0.2
LEAST_BYTES = 16 * 2**20
"""What the database and small files want, beside the models."""

_log = logging.getLogger(__name__)


class Room:
    """Looks whether there is room for what is to be saved, and holds the run up where it must.

    Args:
        files: The files of the study's artifacts.
        check: Called five times a second while something waits; what it raises ends the wait.
        remaining_s: The seconds that are left; when they are up, what waits ends the run.

    ``make_room`` is called when there is none for the first time, and may remove what nobody needs.
    """

    def __init__(
        self, files: Artifacts, check: Callable[[], None], remaining_s: Callable[[], float]
    ) -> None:
        self._files, self._check, self._remaining_s = files, check, remaining_s
        self._model_bytes = 0.0
        self._looked_s, self._looked_for, self._held_s = -math.inf, 0, -math.inf
        self._has_said = self._is_writing = False
        self._lack: DiskFullError | None = None
        self.is_short = False
        self.make_room: Callable[[], None] = lambda: None

    def expect(self, model_bytes: float) -> None:
        """Takes note how large a model is: whatever is made next may be as large."""
        self._model_bytes = model_bytes

    def look(self, n_models: int = 1) -> bool:
        """Tells whether there is room for so many models; looks anew every few seconds.

        Where there is none for one more beside those that are being made, nothing is said: the run
        goes on with fewer at a time.
        """
        now_s = time.monotonic()
        is_old = now_s - self._looked_s >= LOOK_EVERY_S or n_models != self._looked_for
        if is_old and now_s >= self._held_s:
            self._looked_s, self._looked_for = now_s, n_models
            self.is_short = not self._has_made_room(n_models)
            if self.is_short and n_models == 1:
                self._say(_too_little(self._files))
            self._say_end()
        return not self.is_short

    def check_nothing_missed(self) -> None:
        """Says that there was no room where the time is up and nothing has finished.

        Raises:
            DiskFullError: something waits for room.
        """
        if self.is_short:
            error = self._lack or DiskFullError("the disk is full: make room")
            raise DiskFullError(f"{error}; the same command goes on") from error

    def lack(self, error: DiskFullError) -> None:
        """Takes note that a job had no room; none is to be sent out until `look` finds some."""
        self._lack = error
        self._held_s, self.is_short = time.monotonic() + LOOK_EVERY_S, True
        self._say(error)

    def wait(self, error: DiskFullError) -> None:
        """Holds the run up until there seems to be room for what had none.

        Raises:
            DiskFullError: the time is up.
        """
        self._check_time(error)
        self.lack(error)
        while not self.look():
            self._rest(error, POLL_S)

    def insist(self, write: Callable[[], T]) -> T:
        """Does what fails as a whole for want of room, every few seconds until it is done.

        Raises:
            DiskFullError: the time is up.
        """
        if self._is_writing:  # asked by `check`, which is not to wait for itself
            return write()
        self._is_writing = True
        try:
            done = self._until_done(write)
        finally:
            self._is_writing = False
        self._say_end()
        return done

    def _until_done(self, write: Callable[[], T]) -> T:
        while True:
            try:
                return write()
            except DiskFullError as error:
                self._check_time(error)
                self._say(error, is_write=True)
                self._rest(error, LOOK_EVERY_S)

    def _rest(self, error: DiskFullError, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check()
            self._check_time(error)
            time.sleep(POLL_S)

    def _check_time(self, error: DiskFullError) -> None:
        if self._remaining_s() <= 0:
            raise DiskFullError(f"{error}; the same command goes on") from error

    def _has_made_room(self, n_models: int) -> bool:
        if self._has_room(n_models):
            return True
        if self.is_short:
            return False
        self.make_room()
        return self._has_room(n_models)

    def _has_room(self, n_models: int) -> bool:
        try:
            return self._files.has_room(self._needed_bytes(n_models))
        except PlaceError:
            return True  # whatever else is wrong with the place, who saves there will say

    def _needed_bytes(self, n_models: int) -> float:
        return LEAST_BYTES + n_models * self._model_bytes

    def _say(self, error: DiskFullError, *, is_write: bool = False) -> None:
        if not self._has_said:
            self._has_said = True
            what, needed = str(error).removesuffix(" and try again"), self._needed_bytes(1) / 2**20
            enough = "there is room" if is_write else f"{needed:.0f} MiB are free"
            # Not a note, which those who ask for no progress would not see.
            _log.warning("paused: %s; it goes on by itself as soon as %s", what, enough)

    def _say_end(self) -> None:
        if self._has_said and not (self.is_short or self._is_writing):
            self._has_said = False
            _log.warning("there is room again: it goes on")


def _too_little(files: Artifacts) -> DiskFullError:
    where = f" under {files.root}" if isinstance(files, ArtifactFiles) else ""
    return DiskFullError(f"there is too little room for another model{where}: make room")


def patient(store: Store, room: Room) -> Store:
    """Gives a store whose calls wait for room.

    Each is one transaction, or may be done twice: when it raises, nothing that counts was written.
    """
    return cast(Store, _Patient(store, room))


class _Patient:
    def __init__(self, store: Store, room: Room) -> None:
        self._wrapped, self._room = store, room

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            return self._room.insist(partial(found, *arguments, **named))

        return call
