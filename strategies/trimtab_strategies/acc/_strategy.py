"""Attention context contribution as the search sees it. Free of torch until it is applied."""

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
from trimtab_strategies.cost import FLOPS_PER_MAC, EncoderShape, LengthHistogram, mean_flops

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification


class AccStrategy(Strategy):
    """Keeps a share of the tokens in each layer, those that are attended to most.

    The shares follow from how attention spreads in the model as it is; the model is then
    fine-tuned under them.
    """

    name: ClassVar[str] = "acc"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "keeps in each layer the share of tokens that its attention supports"
    choices: ClassVar[tuple[Choice, ...]] = (
        Choice(
            "calibration",
            1024,
            "training rows that the shares are measured on",
            values=(256, 512, 1024, 2048),
            counts_rows=True,
        ),
        Choice(
            "epochs",
            1,
            "passes over the training rows with the tokens gone; with 0 no weight changes",
            values=(0, 1, 2, 3),
        ),
        Choice(
            "lr",
            5e-5,
            "peak learning rate",
            low=5e-6,
            high=1e-4,
            log=True,
            unless=(("epochs", 0),),
        ),
    )
    slot: ClassVar[Slot] = "tokens"
    statistics_choices: ClassVar[tuple[str, ...]] = ("calibration",)

    def passes(self, choices: Mapping[str, Value]) -> float:
        """Each epoch goes forward and back once over every row."""
        return 3.0 * int(choices["epochs"])

    def reach(self, shape: EncoderShape, histogram: LengthHistogram) -> CostRange:
        """From the first token alone behind the first layer's attention, up to every token.

        The lower end holds where the first layer has heads; one without lets nothing go.
        """
        from trimtab_strategies.acc._cost import acc_total_macs  # numpy

        macs = acc_total_macs(shape, [1.0] * shape.n_layers, histogram, scale=0.0)
        low = FLOPS_PER_MAC * macs / histogram.n
        return CostRange(low, mean_flops(shape, histogram))

    def prepare(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        progress: Progress,
    ) -> Mapping[str, torch.Tensor]:
        """Measures how attention spreads over the tokens in each layer; see ``_training``."""
        from trimtab_strategies.acc._training import measure

        return measure(model, calibration, choices, progress)

    def apply(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        statistics: Mapping[str, torch.Tensor] | None,
        ladder: Sequence[float],
        progress: Progress,
    ) -> Iterator[Variant]:
        """Yields one model; its knob ``alpha_sc``, 1 to begin with, scales all shares.

        Raises:
            ValueError: if the model has a token rule already, or training diverges.
        """
        from trimtab_strategies.acc._training import keep_tokens

        if statistics is None:
            statistics = self.prepare(model, calibration, choices, progress)
        yield keep_tokens(model, calibration, choices, statistics, progress)
