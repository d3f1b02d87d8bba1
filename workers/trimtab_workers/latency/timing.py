"""The time of single calls: by the processor's clock, or on an accelerator once it is done."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def timed_ms(call: Callable[[], object], device: torch.device) -> float:
    """Gives the milliseconds that a call takes until its result is there.

    On CUDA by events, so that the wait for what was queued before does not count.
    """
    if device.type == "cuda":
        return _timed_by_events_ms(call, device)
    if device.type == "mps":
        torch.mps.synchronize()
    started = time.perf_counter_ns()
    call()
    if device.type == "mps":
        torch.mps.synchronize()
    return (time.perf_counter_ns() - started) / 1e6


def _timed_by_events_ms(call: Callable[[], object], device: torch.device) -> float:
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end))
