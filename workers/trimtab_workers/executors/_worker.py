"""What runs in a Ray worker process: one job at a time, and news of it on the side."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab_workers.executors._base import Job, Outcome, Progress, WorkerContext
from trimtab_workers.executors._commons import Share
from trimtab_workers.executors._guard import run_guarded
from trimtab_workers.executors._shared import Mark

# Read when a numerical library is first loaded. Workers start without one of their own.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")

# A job may report a thousand times a second; the driver hears of it at most this often.
_NEWS_EVERY_S = 0.1


@dataclass(frozen=True)
class News:
    """The worker's state at one moment; `version` grows with every report."""

    version: int
    pid: int
    node_id: str
    host: str  # the node's address
    unseen: tuple[str, ...]  # folders that should be shared, and are not here
    log: str  # the file that the process writes its errors to
    ticket: int | None
    progress: Progress | None


class Worker:
    """The Ray actor. `run` and `watch` are called at the same time, from two threads.

    Args:
        device: Handed to the jobs as it is.
        threads: How many threads the numerical libraries of this process may use.
        marks: Folders that must be the same here as on the driver's machine.
    """

    def __init__(self, device: str, threads: int, marks: Sequence[Mark] = ()) -> None:
        for name in _THREAD_VARIABLES:
            os.environ[name] = str(threads)
        self._share = Share()
        self._context = WorkerContext(device, self._report, shared=self._share.get)
        self._unseen = tuple(mark.folder for mark in marks if not mark.is_seen())
        self._changed = threading.Condition()
        self._version = 0
        self._ticket: int | None = None
        self._progress: Progress | None = None

    def run(
        self, ticket: int, job: Job, shared: Mapping[str, Any]
    ) -> tuple[Outcome, dict[str, Any]]:
        """Runs one job; an exception of the job never leaves this process.

        ``shared`` are references to what all workers share; what this one adds comes back beside
        the outcome.
        """
        self._tell(ticket, None)
        self._share.renew(shared)
        try:
            return run_guarded(ticket, job, self._context), self._share.made
        finally:
            self._tell(None, None)

    def watch(self, seen: int) -> News:
        """Gives news later than version `seen`, and waits for it if there is none.

        The driver always has one such call open: it is how progress reaches the driver, and how
        the driver learns that an idle worker died.
        """
        if seen >= 0:
            time.sleep(_NEWS_EVERY_S)
        with self._changed:
            self._changed.wait_for(lambda: self._version > seen)
            return News(
                version=self._version,
                pid=os.getpid(),
                node_id=_node_id(),
                host=_host(),
                unseen=self._unseen,
                log=_log_path(),
                ticket=self._ticket,
                progress=self._progress,
            )

    def _report(self, stage: str, done: int, total: int) -> None:
        self._tell(self._ticket, Progress(stage, done, total))

    def _tell(self, ticket: int | None, progress: Progress | None) -> None:
        with self._changed:
            self._version += 1
            self._ticket, self._progress = ticket, progress
            self._changed.notify_all()


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _host() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _log_path() -> str:
    try:
        return os.readlink("/proc/self/fd/2")
    except OSError:
        return ""
