from __future__ import annotations

import errno
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from trimtab_workers.errors import ModelError
from trimtab_workers.executors import WorkerContext
from trimtab_workers.executors._guard import failure_of, one_line, run_guarded


def context() -> WorkerContext:
    return WorkerContext(device="cpu", report=lambda stage, done, total: None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("x"), "error"),
        (ModelError("x"), "input"),
        (MemoryError(), "oom_host"),
        (torch.OutOfMemoryError("x"), "oom_device"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when …"), "oom_device"),
        (ValueError("CUBLAS_STATUS_ALLOC_FAILED"), "error"),
        (SystemExit(1), "error"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EACCES, "Permission denied"), "error"),
        (ValueError("I/O error: No space left on device (os error 28)"), "disk_full"),
    ],
)
def test_names_the_reason(error: BaseException, reason: str) -> None:
    assert failure_of(error).reason == reason


def test_a_full_disk_is_seen_behind_what_was_made_of_it() -> None:
    class Fills:
        def run(self, context: WorkerContext) -> Any:
            try:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            except OSError as error:
                raise RuntimeError("could not be written") from error

    failure = run_guarded(1, Fills(), context()).failure
    assert failure and (failure.reason, failure.message[:12]) == ("disk_full", "RuntimeError")


def test_an_error_may_be_its_own_cause() -> None:
    class Circular:
        def run(self, context: WorkerContext) -> Any:
            try:
                raise ValueError("round and round")
            except ValueError as error:
                raise error from error

    failure = run_guarded(1, Circular(), context()).failure
    assert failure and failure.reason == "error"


def test_an_error_says_itself_that_its_place_is_to_blame() -> None:
    class PlaceError(Exception):
        blames = "storage"

    assert failure_of(PlaceError("s3://bucket does not answer")).reason == "storage"


def test_knows_what_torch_says_when_the_host_has_no_memory() -> None:
    class Hungry:
        def run(self, context: WorkerContext) -> Any:
            return torch.empty(2**60, dtype=torch.uint8)

    failure = run_guarded(1, Hungry(), context()).failure
    assert failure and failure.reason == "oom_host"


def test_an_interrupt_comes_through() -> None:
    class Interrupted:
        def run(self, context: WorkerContext) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_guarded(1, Interrupted(), context())


def test_nothing_of_a_job_that_ran_out_of_memory_stays_alive() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    @dataclass
    class Hungry:
        def run(self, context: WorkerContext) -> Any:
            tensor = torch.zeros(10)
            held.append(weakref.ref(tensor))
            cycle: list[Any] = [tensor]
            cycle.append(cycle)
            raise torch.OutOfMemoryError("CUDA out of memory")

    run_guarded(1, Hungry(), context())
    assert held[0]() is None


@pytest.mark.parametrize(
    ("text", "line"), [("", ""), ("\n \n", ""), ("\n a b \nc", "a b"), ("a", "a")]
)
def test_takes_the_first_line_that_says_something(text: str, line: str) -> None:
    assert one_line(text) == line


def test_an_error_without_words_is_named() -> None:
    assert failure_of(AssertionError()).message == "AssertionError"


@dataclass(frozen=True)
class HeldUp:
    """Waits for another run, and may then fail."""

    seconds: float
    fails: bool = False

    def run(self, context: WorkerContext) -> None:
        context.held_up_s += self.seconds
        if self.fails:
            raise ValueError


def test_what_held_a_job_up_is_told_and_not_of_the_next() -> None:
    here = context()
    jobs = (HeldUp(2.0), HeldUp(3.0, fails=True), HeldUp(0.0))
    assert [run_guarded(1, job, here).held_up_s for job in jobs] == [2.0, 3.0, 0.0]
