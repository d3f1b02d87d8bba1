"""Where jobs run: in this process (`inline`) or in worker processes (`ray`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimtab_workers.executors._base import (
    Executor,
    ExecutorError,
    ExecutorLostError,
    Failure,
    Job,
    Outcome,
    Progress,
    WorkerContext,
)

__all__ = [
    "KINDS",
    "Executor",
    "ExecutorError",
    "ExecutorLostError",
    "Failure",
    "Job",
    "Outcome",
    "Progress",
    "WorkerContext",
    "make_executor",
]

KINDS = ("inline", "ray")


def make_executor(
    kind: str,
    *,
    count: int,
    gpus_each: float,
    device: str,
    address: str | None,
    cpus_each: float = 1.0,
    threads: int | None = None,
    shared: Sequence[str | Path] = (),
) -> Executor:
    """Makes an executor of the kind named; Ray is imported only when it is asked for.

    Args:
        kind: `inline` or `ray`.
        count: How many jobs may run at once; `inline` runs one at a time whatever is asked.
        gpus_each: GPUs that each Ray worker takes, may be a fraction; `inline` takes no notice.
        device: Handed to the jobs as it is: `auto`, `cpu`, `cuda`, …
        address: A Ray cluster (`auto`, `host:port`, `ray://host:port`) or None for an own one.
        cpus_each: CPUs that each Ray worker takes; `inline` takes no notice.
        threads: Threads that each Ray worker computes with; None shares this machine's cores.
        shared: Folders that every node of a cluster must see; `inline` takes no notice.

    Raises:
        ValueError: The kind is unknown, or a number is out of range.
        ExecutorError: Ray cannot be started or reached.
    """
    if kind == "inline":
        from trimtab_workers.executors._inline import InlineExecutor

        return InlineExecutor(device=device)
    if kind == "ray":
        from trimtab_workers.executors._ray import RayExecutor

        return RayExecutor(
            count,
            gpus_each=gpus_each,
            cpus_each=cpus_each,
            device=device,
            address=address,
            threads=threads,
            shared=shared,
        )
    raise ValueError(f"executor must be one of {', '.join(KINDS)}, but got {kind!r}")
