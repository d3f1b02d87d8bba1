"""The Fisher strategy as the search sees it. Free of torch until it is applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from trimtab_strategies.base import (
    Calibration,
    Choice,
    CostRange,
    Progress,
    Strategy,
    Value,
    Variant,
)
from trimtab_strategies.cost import EncoderShape, LengthHistogram, mean_flops

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification


class FisherStrategy(Strategy):
    """Takes out the heads and filters whose removal hurts least, and mends what is left.

    One set of per-example gradients serves every rung of a ladder of costs, every setting of the
    other choices, and every later budget.
    """

    name: ClassVar[str] = "fisher"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "retraining-free removal of heads and filters"
    choices: ClassVar[tuple[Choice, ...]] = (
        Choice(
            "calibration",
            2048,
            "training rows that gradients and mask tuning look at",
            values=(256, 512, 1024, 2048),
            counts_rows=True,
        ),
        Choice(
            "rearrange",
            True,
            "choose again within each layer, by what removals do together",
            values=(True, False),
        ),
        Choice(
            "tuning",
            "scale",
            "mend the output of each sub-layer: a factor per head and filter, or not at all",
            values=("scale", "none"),
        ),
        Choice(
            "damping",
            1.0,
            "how strongly tuned factors are held towards 1 (the paper's ridge has 1)",
            low=0.01,
            high=100.0,
            log=True,
            requires=(("tuning", "scale"),),
        ),
    )
    statistics_choices: ClassVar[tuple[str, ...]] = ("calibration",)

    def reach(self, shape: EncoderShape, histogram: LengthHistogram) -> CostRange:
        """Anything from nothing left in any layer up to the model as it is."""
        return CostRange(0.0, mean_flops(shape, histogram))

    def prepare(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        progress: Progress,
    ) -> Mapping[str, torch.Tensor]:
        """Takes the gradient of every gate on every calibration row; see ``_statistics``."""
        from trimtab_strategies.fisher._statistics import gate_gradients

        return gate_gradients(model, calibration, int(choices["calibration"]), progress)

    def apply(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        statistics: Mapping[str, torch.Tensor] | None,
        ladder: Sequence[float],
        progress: Progress,
    ) -> Iterator[Variant]:
        """Yields one sliced model for each rung of the ladder, never over its cost."""
        from trimtab_strategies.fisher._pipeline import prune

        if statistics is None:
            statistics = self.prepare(model, calibration, choices, progress)
        yield from prune(model, calibration, choices, statistics, ladder, progress)
