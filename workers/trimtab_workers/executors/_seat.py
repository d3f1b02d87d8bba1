"""One worker as the driver sees it: its process, the job in it, and what is known of both."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from trimtab_workers.executors._base import Failure, Job, Progress
from trimtab_workers.executors._guard import one_line, summary_of
from trimtab_workers.executors._quiet_ray import ray
from trimtab_workers.executors._shared import Mark
from trimtab_workers.executors._worker import News, Worker

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_USED = re.compile(r"pid=(\d+), actual memory used=([\d.]+)GB")
_FAR_MORE = 2.0
_LOG_TAIL_BYTES = 4000
_DEATH_S = 5.0  # how long a killed process may take to vanish

# Nothing is tried again behind the caller's back; two calls at once, for `run` and `watch`.
_ACTOR = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=2)(Worker)


@dataclass(frozen=True)
class Entry:
    """A job in the queue or in a worker."""

    ticket: int
    job: Job
    timeout_s: float | None


@dataclass(eq=False)
class Seat:
    """A Ray actor with two calls open: `watch`, always, and `result` while it has a job."""

    actor: Any
    watch: Any
    born: float = field(default_factory=time.monotonic)
    news: News | None = None  # None until the process is up
    process: psutil.Process | None = None  # None when it is on another machine
    entry: Entry | None = None
    result: Any = None
    began_s: float = 0.0
    deadline: float | None = None

    @classmethod
    def open(
        cls, options: Mapping[str, Any], device: str, threads: int, marks: Sequence[Mark]
    ) -> Seat:
        """Asks Ray for one more worker; it comes up by and by."""
        actor = _ACTOR.options(**options).remote(device, threads, marks)
        return cls(actor, actor.watch.remote(-1))

    def is_beside(self, other: Seat) -> bool:
        """Tells whether another worker is one of the same machine."""
        here, there = self.news, other.news
        return other is not self and bool(here and there and here.node_id == there.node_id)

    @property
    def is_free(self) -> bool:
        return self.news is not None and self.entry is None

    @property
    def progress(self) -> tuple[int, Progress] | None:
        """The latest report of the job that runs now."""
        entry, news = self.entry, self.news
        if entry is None or news is None or news.progress is None or news.ticket != entry.ticket:
            return None
        return entry.ticket, news.progress

    def start(self, entry: Entry, shared: Mapping[str, Any]) -> None:
        """Hands a job to the worker, with what all share; its time limit counts from now.

        Raises:
            Exception: The job cannot be pickled; the worker is still free.
        """
        self.result = self.actor.run.remote(entry.ticket, entry.job, shared)
        self.entry, self.began_s = entry, time.monotonic()
        self.deadline = None if entry.timeout_s is None else time.monotonic() + entry.timeout_s

    def finish(self) -> None:
        """Forgets the job that ran."""
        self.entry = self.result = self.deadline = None

    def hear(self, news: News, here: str) -> None:
        """Takes in what `watch` gave and asks for more; `here` is this machine's node."""
        if self.news is None and news.node_id == here:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.process = psutil.Process(news.pid)
        self.news = news
        self.watch = self.actor.watch.remote(news.version)

    def kill(self, *, ray_answers: bool) -> None:
        """Ends the process and its children without asking them.

        A signal also ends a process that is stopped or whose cluster is gone. `ray.kill` is for
        workers on other machines and such as are not up yet; it blocks while the head is silent.
        """
        if self.process is not None:
            kill_tree(self.process)
        elif ray_answers:
            with contextlib.suppress(Exception):  # it was dead already
                ray.kill(self.actor, no_restart=True)

    def obituary(self, error: BaseException, *, was_alone: bool) -> Failure:
        """Says why the worker died with its job, from the exception that Ray raised.

        Ray's memory monitor chooses whom it kills by when they began, and may kill several. Certain
        is only that one was to blame that had no other of ours beside it, or used far more.
        """
        detail = f"{plain(str(error))}\n{self.log_tail()}".strip()
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            message = f"the machine ran out of memory: {one_line(str(error))}"
            is_certain = was_alone or (self.news is not None and is_hog(str(error), self.news.pid))
            return Failure("oom_host", message, detail, is_in_doubt=not is_certain)
        pid = "" if self.news is None else f" (process {self.news.pid}{self._elsewhere})"
        lost = ", the loss of its node" if self._elsewhere else ""
        message = (
            f"the worker{pid} died while it ran the job; the usual causes are kill -9{lost}, "
            "the system's out-of-memory killer and a fault in native code"
        )
        return Failure("crashed", message, detail)

    def located(self, failure: Failure) -> Failure:
        """Adds where it was to what another node may see otherwise than this one: files."""
        if failure.reason == "disk_full" and self._elsewhere:
            return replace(failure, message=f"{failure.message} ({self._elsewhere.strip()})")
        is_about_files = failure.reason == "input" or "No such file" in failure.message
        if not is_about_files or not self._elsewhere:
            return failure
        where = (
            f"(seen{self._elsewhere}; on a cluster, models, data and the folder beside the "
            "database must be at paths that every node sees)"
        )
        return replace(failure, message=f"{failure.message} {where}")

    @property
    def _elsewhere(self) -> str:
        """Names the worker's node, if it is not this one."""
        if self.process is not None or self.news is None:
            return ""
        return f" on node {self.news.host}"

    def log_tail(self) -> str:
        """Gives the end of what the process wrote to its error stream, if it can be read here."""
        if self.process is None or self.news is None or not self.news.log:
            return ""
        try:
            return Path(self.news.log).read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            return ""


def kill_tree(process: psutil.Process) -> None:
    """Kills a process and all below it, and waits until they are gone."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=_DEATH_S)


def is_hog(said: str, pid: int) -> bool:
    """Tells whether, by what Ray says of those it considered, one used far more than the others."""
    used = {int(worker): float(gigabytes) for worker, gigabytes in _USED.findall(said)}
    others = [gigabytes for worker, gigabytes in used.items() if worker != pid]
    return used.get(pid, 0.0) > _FAR_MORE * max(others, default=0.0)


def transport_failure(error: BaseException) -> Failure:
    """Explains a job or a result that could not be pickled; the worker is unharmed."""
    cause = getattr(error, "cause", None) or error
    message = f"the job or its result could not be sent between processes: {summary_of(cause)}"
    return Failure("error", message, plain(str(error)))


def plain(text: str) -> str:
    """Takes out the colours that Ray puts into its messages."""
    return _COLOUR.sub("", text)
