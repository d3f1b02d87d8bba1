"""What one worker makes and all use: once in Ray's object store, read in place by every worker.

A value belongs to whoever puts it there and is gone with that process. Workers are killed all the
time, so the driver takes what they made over and owns it until the executor is closed. Where a
value is not to be had (its node was lost, or there is no room), a worker makes its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from trimtab_workers.executors._quiet_ray import ray

_PATIENCE_S = 60.0  # for a value to come from another node
_DRIVERS_PATIENCE_S = 5.0  # it has to look after its workers, and to stop when it is told to


class Commons:
    """The driver's side: owns the values.

    Attributes:
        refs: A reference to each, by name; handed to a worker with every job.
    """

    def __init__(self) -> None:
        self.refs: dict[str, Any] = {}
        self._tried: set[str] = set()

    def take_over(self, made: Mapping[str, Any]) -> None:
        """Puts what a worker made into the store anew, as ours; the first of a name stays.

        It is tried once for each name: where it takes too long, it would every time.
        """
        for name in made.keys() - self._tried:
            self._tried.add(name)
            # Whatever it is (the worker died, no room, a lost connection), each makes its own.
            with contextlib.suppress(Exception):
                self.refs[name] = ray.put(ray.get(made[name], timeout=_DRIVERS_PATIENCE_S))

    def clear(self) -> None:
        """Lets go of all of it."""
        self.refs, self._tried = {}, set()


class Share:
    """A worker's side: takes values from the store, and puts there what it had to make.

    Attributes:
        made: References to what this worker made for its present job.
    """

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self._refs: Mapping[str, Any] = {}

    def renew(self, refs: Mapping[str, Any]) -> None:
        """Takes in what the driver has by now; what it did not take over is nobody's any more."""
        self._refs, self.made = refs, {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Gives the value of a name; arrays in one from the store cannot be written to."""
        if name in self._refs:
            with contextlib.suppress(ray.exceptions.RayError):
                return ray.get(self._refs[name], timeout=_PATIENCE_S)
        value = make()
        with contextlib.suppress(Exception):
            self.made[name] = ray.put(value)
        return value
