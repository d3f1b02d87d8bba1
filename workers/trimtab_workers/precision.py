"""In which numbers a model computes: fp32, or bf16 where the device computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from trimtab_workers.errors import WorkerInputError

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabForSequenceClassification

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_CPU_FLAGS = ("avx512_bf16", "amx_bf16", "avx10_2", "sve_bf16", "bf16")
"""Instructions that multiply bf16: of x86, and of Arm."""


def set_precision(
    model: TrimtabForSequenceClassification, precision: str | torch.dtype
) -> TrimtabForSequenceClassification:
    """Has a model compute in ``fp32`` or ``bf16`` on the device that it is on, and gives it back.

    Thresholds of tokens stay in fp32: rounding them would move what was learned.

    Raises:
        WorkerInputError: if the precision is neither, or the device does not compute bf16.
    """
    dtype = _dtype_of(precision)
    if dtype is torch.bfloat16 and not computes_bf16(model.device):
        raise WorkerInputError(
            f"bf16 was asked for, but device {str(model.device)!r} must imitate it, which is slow; "
            "leave the dtype at fp32, or name a device that computes bf16"
        )
    for name, part in model.named_children():
        if name != "token_rule":
            part.to(dtype)
    return model


def computes_bf16(device: torch.device) -> bool:
    """Tells whether a device multiplies bf16 itself; one that must imitate it would be slower."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return _works(device)
    known = torch.cpu.get_capabilities()
    return any(known.get(flag, False) for flag in _CPU_FLAGS) and _works(device)


def _works(device: torch.device) -> bool:
    try:
        ones = torch.ones(2, 2, dtype=torch.bfloat16, device=device)
        return bool((ones @ ones).sum() == 8)
    except (RuntimeError, TypeError):
        return False


def _dtype_of(precision: str | torch.dtype) -> torch.dtype:
    dtype = _DTYPES.get(precision) if isinstance(precision, str) else precision
    if dtype is None or dtype not in _DTYPES.values():
        raise WorkerInputError(
            "dtype must be fp32 or bf16, or torch's float32 or bfloat16, but got "
            f"{str(precision)!r}"
        )
    return dtype
