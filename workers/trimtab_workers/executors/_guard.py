"""Runs one job and turns whatever it raises into a plain `Failure`."""

from __future__ import annotations

import errno
import gc
import sys
import traceback

from trimtab_workers.errors import WorkerInputError
from trimtab_workers.executors._base import Failure, Job, Outcome, Reason, WorkerContext

# torch raises a bare RuntimeError for these; the words are those of its allocators.
_HOST_MEMORY_WORDS = ("DefaultCPUAllocator",)
_DISK_WORDS = "No space left on device"  # of the library that writes weights, in Rust
_DEVICE_MEMORY_WORDS = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def run_guarded(ticket: int, job: Job, context: WorkerContext) -> Outcome:
    """Runs the job; only `KeyboardInterrupt` and the like come through.

    `SystemExit` counts as an error of the job, so that a stray `sys.exit` does not end the worker.
    After a failure for lack of device memory the cached blocks are given back, for the next job.
    """
    context.held_up_s = 0.0
    try:
        value = job.run(context)
        return Outcome(ticket, value, held_up_s=context.held_up_s)
    except (Exception, SystemExit) as error:
        failure = failure_of(error)
    # Only here, outside the handler, are the job's frames gone, and with them their tensors.
    if failure.reason in ("oom_device", "oom_host"):
        _free_memory()
    return Outcome(ticket, failure=failure, held_up_s=context.held_up_s)


def failure_of(error: BaseException) -> Failure:
    """Says in one line what the exception means, with the traceback as detail."""
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, WorkerInputError):
        return Failure("input", one_line(str(error)), detail)
    return Failure(_reason_of(error), summary_of(error), detail)


def summary_of(error: BaseException) -> str:
    """Names the exception and the first line of its text."""
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def one_line(text: str) -> str:
    """Gives the first line that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _reason_of(error: BaseException) -> Reason:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "oom_device"
    if isinstance(error, MemoryError):
        return "oom_host"
    if _is_disk_full(error):
        return "disk_full"
    # Said by the error itself, whose package workers do not import.
    if getattr(error, "blames", None) == "storage":
        return "storage"
    text = str(error) if isinstance(error, RuntimeError) else ""
    if any(words in text for words in _DEVICE_MEMORY_WORDS):
        return "oom_device"
    return "oom_host" if any(words in text for words in _HOST_MEMORY_WORDS) else "error"


def _is_disk_full(error: BaseException | None) -> bool:
    """Tells whether there was no room for a file, whatever was made of that on the way up."""
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        is_system = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if is_system or _DISK_WORDS in str(error):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
