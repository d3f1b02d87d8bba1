"""A linear map whose weights can be laid out for the processor once, not in every product.

Matrix kernels copy the weights into a layout of their own before they multiply. With thousands of
rows that is next to nothing; with the few that a pruned model leaves, or a single short text, it is
a large part of the time. Where the processor's library (oneDNN) offers it, the copy can be kept.

That is for a model whose weights stay as they are, so it is asked for (``keep_layout``), and over
when training begins, as ``train()`` or a forward pass with gradients tells. A weight that is
replaced, or changed in a way that torch counts, is laid out anew.

oneDNN writes a kernel for every number of rows that it sees, which takes as long as multiplying
hundreds of them, and remembers a thousand. Whoever has rows in ever other numbers should round them
up (``rounded``), so that few kernels serve all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

FEWEST_WEIGHTS = 4096
"""Smaller maps gain nothing."""
LAID_OUT = (torch.float32, torch.bfloat16)
"""Of which weights a layout is kept."""


class ElasticLinear(nn.Linear):
    """A linear map that may have no inputs or no outputs; with no inputs it gives its bias."""

    _layouts: dict[tuple[int, int], _Layout] | None = None
    """Of the outputs from, to; None where none shall be kept."""

    def reset_parameters(self) -> None:
        """Draws weights as torch does, except where there are none to draw (torch would warn)."""
        if self.weight.numel():
            super().reset_parameters()
        else:
            nn.init.zeros_(self.bias)

    def keep_layout(self) -> None:
        """Lays the weights out at the next evaluation on the CPU, until training begins."""
        if not self.training:
            self._layouts = {}

    @property
    def keeps_layout(self) -> bool:
        """Whether a layout is wanted and can be kept of weights as they are now."""
        weight = self.weight
        wanted = self._layouts is not None and not torch.is_grad_enabled()
        return wanted and weight.device.type == "cpu" and weight.dtype in LAID_OUT

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Maps ``rows`` [..., inputs] to [..., outputs]."""
        return self.some(rows, 0, self.out_features)

    def some(self, rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Maps ``rows`` [..., inputs] to the outputs from ``start`` to ``stop`` alone."""
        layout = self._layout(rows, start, stop)
        if layout is not None:
            return layout.map(rows)
        if stop - start == self.out_features:
            return functional.linear(rows, self.weight, self.bias)
        return functional.linear(rows, self.weight[start:stop], self.bias[start:stop])

    def _layout(self, rows: torch.Tensor, start: int, stop: int) -> _Layout | None:
        """Gives the layout to map ``rows`` by, made anew if need be; None if that cannot be."""
        # A compiler lays weights out itself, and cannot look through what follows.
        layouts = None if torch.compiler.is_compiling() else self._layouts
        if layouts is None:
            return None
        if torch.is_grad_enabled():  # products with a layout have no gradients
            if self.weight.requires_grad:
                self._layouts = None  # an optimizer may follow, and not all can be noticed
            return None
        if stop <= start or not self._can_use_layout(rows):
            return None
        known = layouts.get((start, stop))
        if known is None or not known.is_current(self.weight, self.bias):
            known = layouts[start, stop] = _Layout(self.weight, self.bias, start, stop)
        return known

    def train(self, mode: bool = True) -> ElasticLinear:
        """Sets the mode; in training weights change, so that no layout is kept from then on."""
        if mode:
            self._layouts = None
        return super().train(mode)

    def _apply(self, *arguments: Any, **named: Any) -> ElasticLinear:
        """Moves or casts the weights, as ``to`` does; layouts of the old ones are of no use."""
        if self._layouts:
            self._layouts = {}
        super()._apply(*arguments, **named)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what can be made again, and cannot be copied or saved."""
        return {name: value for name, value in self.__dict__.items() if name != "_layouts"}

    def _can_use_layout(self, rows: torch.Tensor) -> bool:
        """Tells whether this is plain numbers on the CPU, with nobody watching or tracing."""
        weight = self.weight
        return (
            rows.dtype is weight.dtype is self.bias.dtype
            and weight.dtype in LAID_OUT
            and rows.device.type == weight.device.type == "cpu"
            and rows.numel() > 0
            and rows.shape[-1] == self.in_features
            and weight.numel() >= FEWEST_WEIGHTS
            and type(weight) is nn.Parameter
            and not weight.is_inference()
            and not weight.is_shared()  # type: ignore[no-untyped-call]
            and not torch.is_autocast_enabled("cpu")
            and not is_in_torch_dispatch_mode()
            and bool(torch.backends.mkldnn.enabled)
            and can_keep_layouts(weight.dtype)
        )


class _Layout:
    """Some outputs' weights as oneDNN wants them, and the tensors that they were taken from.

    Holding on to these keeps their memory from being used for others at the same address, and they
    share torch's count of changes.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, start: int, stop: int) -> None:
        self._weight, self._bias = weight.detach(), bias.detach()
        self._versions = weight._version, bias._version
        self._laid_out = torch.ops.mkldnn._reorder_linear_weight(self._weight[start:stop])
        self._added = self._bias[start:stop]

    def is_current(self, weight: torch.Tensor, bias: torch.Tensor) -> bool:
        return (
            weight.data_ptr() == self._weight.data_ptr()
            and bias.data_ptr() == self._bias.data_ptr()
            and weight.shape == self._weight.shape
            and weight.stride() == self._weight.stride()
            and (weight._version, bias._version) == self._versions
        )

    def map(self, rows: torch.Tensor, then: str = "none") -> torch.Tensor:
        mapped: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._laid_out, self._added, then, [], "none"
        )
        return mapped

    def fits(self, residual: torch.Tensor) -> bool:
        return residual.shape[-1:] == self._added.shape and residual.is_contiguous()

    def map_and_add(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        mapped: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            rows, residual, self._laid_out, self._added, "add"
        )
        return mapped


def activated(
    linear: nn.Module, rows: torch.Tensor, activation: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Maps ``rows`` [..., inputs] and applies ``activation``, in one where that is the same."""
    is_gelu = getattr(activation, "act", None) is functional.gelu and not _is_watched(activation)
    layout = _layout_to_fuse(linear, rows) if is_gelu else None
    if layout is None:
        return activation(linear(rows))
    return layout.map(rows, "gelu")


def added(linear: nn.Module, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Maps ``rows`` [..., inputs] and adds ``residual`` [..., outputs], in one where it can."""
    layout = _layout_to_fuse(linear, rows)
    is_alike = residual.dtype == rows.dtype and residual.shape[:-1] == rows.shape[:-1]
    if layout is None or not (is_alike and layout.fits(residual)):
        mapped: torch.Tensor = linear(rows)
        return residual + mapped
    return layout.map_and_add(rows, residual)


def _layout_to_fuse(linear: nn.Module, rows: torch.Tensor) -> _Layout | None:
    """Gives the layout by which a map can do more than map; None where it must be called.

    That is where somebody replaced it or watches it. And numbers of less than 32 bits would not be
    rounded in between.
    """
    if type(linear) is not ElasticLinear or _is_watched(linear) or rows.dtype != torch.float32:
        return None
    return linear._layout(rows, 0, linear.out_features)


def _is_watched(module: Any) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def rounded(n_rows: int) -> int:
    """Rounds a number of rows up by at most an eighth, or to the next 8 where they are few.

    That makes eight numbers of all those from one power of two to the next.
    """
    step = max(8, 1 << max(0, (n_rows - 1).bit_length() - 4))
    return -(-n_rows // step) * step


@cache
def can_keep_layouts(dtype: torch.dtype = torch.float32) -> bool:
    """Tells whether this build of torch can on this processor, by trying it on a small map."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    weight = torch.arange(64, dtype=dtype, device="cpu").reshape(8, 8)
    rows = torch.ones(2, 8, dtype=dtype, device="cpu")
    try:
        layout = torch.ops.mkldnn._reorder_linear_weight(weight)
        multiply = torch.ops.mkldnn._linear_pointwise
        got = multiply(rows, layout, weight[0], "gelu", [], "none")
        got = multiply.binary(rows, got, layout, weight[0], "add")
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = functional.linear(rows, weight, weight[0])
    return torch.allclose(got, functional.gelu(expected) + expected)
