"""The Fisher strategy as the search sees it. Free of torch until it is applied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from trimtab_strategies.base import (
    PRICES,
    Calibration,
    Choice,
    CostRange,
    Progress,
    Slot,
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
    version: ClassVar[int] = 5
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
            "importance",
            "predictions",
            "what a unit's removal must not change: the dense model's predictions (needs no "
            "labels), or the loss on the labels",
            values=("predictions", "labels"),
            before="labels",
        ),
        Choice(
            "cost",
            "flops",
            "what a cost is counted in: FLOPs, or the time that parts were measured to take; a "
            "model then keeps within the time of one that is sliced alike in all layers",
            values=("flops", "latency"),
            before="flops",
            anchors=("latency",),
            timed=("latency",),
        ),
        Choice(
            "head_weight",
            1.0,
            "how much more a head's importance counts than a filter's",
            low=0.1,
            high=10.0,
            log=True,
        ),
        Choice(
            "rearrange",
            True,
            "choose again within each layer, by what removals do together",
            values=(True, False),
        ),
        Choice(
            "tuning",
            "projection",
            "mend the output of each sub-layer: its whole projection, a factor per head and "
            "filter, or not at all",
            values=("projection", "scale", "none"),
        ),
        Choice(
            "ridge",
            0.01,
            "how strongly tuned projections are held towards the old ones, per mean square of "
            "their inputs",
            low=1e-4,
            high=1.0,
            log=True,
            requires=(("tuning", "projection"),),
        ),
        Choice(
            "remeasure",
            False,
            "choose the units of each sub-layer again, by what its projection cannot make up for",
            values=(False, True),
            requires=(("tuning", "projection"),),
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
    slot: ClassVar[Slot] = "units"
    aims: ClassVar[bool] = True
    statistics_choices: ClassVar[tuple[str, ...]] = ("calibration", "importance")

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
        """Takes the gradient of every gate on every row that is fitted on; see ``_statistics``."""
        from trimtab_strategies.fisher._pipeline import measure

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
        """Yields one sliced model for each rung of the ladder, never over its cost.

        Raises:
            ValueError: if the cost is to be counted in time, and no prices are given.
        """
        from trimtab_strategies.fisher._pipeline import prune

        if choices.get("cost") == "latency" and PRICES not in choices:
            raise ValueError(f"the choice cost=latency needs {PRICES!r} of heads and filters")
        if statistics is None:
            statistics = self.prepare(model, calibration, choices, progress)
        yield from prune(model, calibration, choices, statistics, ladder, progress)
