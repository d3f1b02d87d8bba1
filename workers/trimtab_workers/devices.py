"""Turns a device's name into a device that is really there."""

from __future__ import annotations

import torch

from trimtab_workers.errors import WorkerInputError


def pick_device(name: str = "auto") -> torch.device:
    """Finds the device that a name stands for.

    Args:
        name: `auto` (the first of CUDA, MPS and CPU that is there), `cpu`, `cuda`, `cuda:0` or
            `mps`.

    Raises:
        WorkerInputError: The name is none of these, or this machine has no such device.
    """
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda", "mps"}:
        raise WorkerInputError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if not _is_there(device):
        raise WorkerInputError(
            f"device {name!r} was asked for, but this machine does not have it; "
            "use device: auto or device: cpu"
        )
    return device


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or torch.backends.mps.is_available()
