"""The early-exit strategy as the search sees it. Free of torch until it is applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from trimtab_strategies.base import (
    Calibration,
    Choice,
    CostRange,
    Progress,
    Slot,
    Strategy,
    Value,
    Variant,
)
from trimtab_strategies.cost import (
    FLOPS_PER_MAC,
    EncoderShape,
    LengthHistogram,
    exit_macs,
    mean_flops,
)

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification

CLASSES_IN_REACH = 2
"""How many classes a task has is not known where reach is asked; there are at least two."""


class EarlyExitStrategy(Strategy):
    """Puts classifiers behind lower layers, so that easy samples need not see the upper ones.

    It makes one model; where samples leave (``tau``, ``patience``, ``agreements``) is set
    afterwards, with no weight changed. With a frozen backbone all exits train in seconds, from
    states that are looked up once; more of them than there is room for, in each of a few epochs.
    """

    name: ClassVar[str] = "early_exit"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "classifiers behind lower layers, at which easy samples leave"
    choices: ClassVar[tuple[Choice, ...]] = (
        Choice(
            "positions",
            "all",
            "layers that get an exit: all but the last, the upper half of these, or every second",
            values=("all", "upper", "even"),
        ),
        Choice(
            "head",
            "attention",
            "form of an exit: FastBERT's self-attention, which sees all tokens; or what one vector "
            "tells a small network (mlp) or one linear map, which train in half the time",
            values=("attention", "mlp", "linear"),
        ),
        Choice(
            "read",
            "mean",
            "what an exit reads: the mean of the tokens left, the first token, or both",
            values=("mean", "first", "both"),
            unless=(("head", "attention"),),
        ),
        Choice(
            "width",
            64,
            "width inside an exit",
            values=(64, 128, 256),
            unless=(("head", "linear"),),
        ),
        Choice(
            "objective",
            "distil",
            "what exits learn, the rest frozen: the final classifier's predictions (needs no "
            "labels), the same with the divergence the other way round, or the labels; joint: the "
            "labels, then on together with the rest",
            values=("distil", "distil_reversed", "labels", "joint"),
        ),
        Choice(
            "rows",
            4096,
            "training rows that exits learn from; those without labels are added to distil",
            values=(1024, 4096, 16384),
            counts_rows=True,
        ),
        Choice(
            "epochs",
            20,
            "passes over what the exits read, the rest frozen",
            values=(5, 10, 20, 40),
        ),
        Choice(
            "lr", 1e-3, "learning rate of the exits, the rest frozen", low=1e-4, high=1e-2, log=True
        ),
        Choice(
            "joint_epochs",
            2,
            "passes of joint training",
            values=(1, 2, 3),
            requires=(("objective", "joint"),),
        ),
        Choice(
            "joint_lr",
            5e-5,
            "learning rate of joint training",
            low=5e-6,
            high=1e-4,
            log=True,
            requires=(("objective", "joint"),),
        ),
    )
    slot: ClassVar[Slot] = "layers"
    bounding_choices: ClassVar[tuple[str, ...]] = ("positions",)

    def passes(self, choices: Mapping[str, Value]) -> float:
        """Once over the rows for what exits read; joint training goes forward and back as well.

        Where there is no room for what attending exits read, it is thrice: how long texts are and
        how wide the model is, choices do not tell.
        """
        return 1.0 + 3.0 * int(choices.get("joint_epochs", 0))

    def reach(self, shape: EncoderShape, histogram: LengthHistogram) -> CostRange:
        """From everybody leaving at the first exit to nobody looking at any.

        With exits of the cheapest form, linear ones, and two classes. A single layer has no exit,
        and costs what it costs; of very short texts an exit may cost more than it saves.
        """
        dense = mean_flops(shape, histogram)
        return CostRange(self.least_flops(shape, histogram, {}), dense)

    def least_flops(
        self, shape: EncoderShape, histogram: LengthHistogram, choices: Mapping[str, Value]
    ) -> float:
        """All layers up to the first that gets an exit: knobs choose among exits, and add none."""
        dense = mean_flops(shape, histogram)
        if shape.n_layers < 2:
            return dense
        n = exit_layers(str(choices.get("positions", "all")), shape.n_layers)[0] + 1
        head = FLOPS_PER_MAC * exit_macs(
            "linear", "first", shape.hidden_size, 1, CLASSES_IN_REACH, n_tokens=1
        )
        first = EncoderShape(shape.hidden_size, shape.head_dim, shape.heads[:n], shape.filters[:n])
        return min(dense, mean_flops(first, histogram) + head)

    def apply(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        statistics: Mapping[str, torch.Tensor] | None,
        ladder: Sequence[float],
        progress: Progress,
    ) -> Iterator[Variant]:
        """Yields the model with trained exits in place of any it had, and no rule to leave by.

        Raises:
            ValueError: if the model has a single layer or fewer than two classes, or there are
                fewer than two rows.
        """
        from trimtab_strategies.early_exit._training import add_exits

        yield add_exits(model, calibration, choices, progress)


def exit_layers(positions: str, n_layers: int) -> list[int]:
    """Gives the layers that get an exit behind them, counted from 0, ascending, never the last.

    Args:
        positions: ``all``, ``upper`` (of these those from the middle of the encoder on) or
            ``even`` (every second, the first included).
        n_layers: of the encoder.

    Raises:
        ValueError: if there is no such layer, or no such word.
    """
    if n_layers < 2:
        raise ValueError(f"early exits need an encoder of at least 2 layers, but got {n_layers}")
    starts_and_steps = {"all": (0, 1), "upper": ((n_layers - 1) // 2, 1), "even": (0, 2)}
    if positions not in starts_and_steps:
        raise ValueError(f"positions must be {', '.join(starts_and_steps)}, but got {positions!r}")
    start, step = starts_and_steps[positions]
    return list(range(start, n_layers - 1, step))
