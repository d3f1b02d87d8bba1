"""Room on the disk: while there is none nothing new begins, and the run goes on by itself.

What had no room is never to blame. A job is sent out again once there seems to be room for it; a
write of the database failed as a whole, so it is simply done again.
"""

from __future__ import annotations

import logging
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
    """

    def __init__(
        self, files: Artifacts, check: Callable[[], None], remaining_s: Callable[[], float]
    ) -> None:
        self._files, self._check, self._remaining_s = files, check, remaining_s
        self._needed_bytes = float(LEAST_BYTES)
        self._looked_s = float("-inf")
        self._has_said = self._is_writing = False
        self.is_short = False

    def expect(self, model_bytes: float) -> None:
        """Takes note how large a model is: whatever is made next may be as large."""
        self._needed_bytes = LEAST_BYTES + model_bytes

    def look(self) -> bool:
        """Tells whether there is room for a model's files; looks anew every few seconds."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            has_room = self._has_room()
            if not has_room and not self.is_short:
                self.lack(_too_little(self._files))
            self.is_short = not has_room
            self._say_end()
        return not self.is_short

    def lack(self, error: DiskFullError) -> None:
        """Takes note that a job had no room; none is to be sent out until `look` finds some."""
        self._looked_s, self.is_short = time.monotonic(), True
        self._say(error)

    def wait(self, error: DiskFullError) -> None:
        """Holds the run up until there seems to be room for what had none.

        Raises:
            DiskFullError: the time is up.
        """
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
                self._say(error)
                self._rest(error, LOOK_EVERY_S)

    def _rest(self, error: DiskFullError, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check()
            if self._remaining_s() <= 0:
                raise DiskFullError(f"{error}; the same command goes on") from error
            time.sleep(POLL_S)

    def _has_room(self) -> bool:
        try:
            return self._files.free_bytes() >= self._needed_bytes
        except PlaceError:
            return True  # whatever else is wrong with the place, who saves there will say

    def _say(self, error: DiskFullError) -> None:
        if not self._has_said:
            self._has_said = True
            what, needed = str(error).removesuffix(" and try again"), self._needed_bytes / 2**20
            # Not a note, which those who ask for no progress would not see.
            _log.warning(
                "paused: %s; it goes on by itself as soon as %.0f MiB are free", what, needed
            )

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
