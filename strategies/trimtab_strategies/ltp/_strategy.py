"""Learned token pruning as the search sees it. Free of torch until it is applied."""

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
    encoder_macs_at,
    mean_flops,
    token_counts,
)

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification

_LEARNED = (("thresholds", "learned"),)
_UNTRAINED = (("thresholds", "manual"),)


class LtpStrategy(Strategy):
    """Lets go of the tokens that are little attended to, by a threshold for each layer.

    Thresholds are learned with soft masks, then held while the weights get used to hard ones.
    """

    name: ClassVar[str] = "ltp"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "learned attention thresholds below which tokens are let go"
    choices: ClassVar[tuple[Choice, ...]] = (
        Choice(
            "thresholds",
            "learned",
            "learn the thresholds and fine-tune; or take the straight line that they start from, "
            "with nothing trained (manual) or with the weights fine-tuned to it (hard_only)",
            values=("learned", "manual", "hard_only"),
            anchors=("manual",),
        ),
        Choice(
            "last_threshold",
            0.01,
            "threshold that the last layer starts from; with the fixed normaliser a token that is "
            "attended to as much as the average scores 1/128, about 0.008",
            low=1e-3,
            high=0.1,
            log=True,
        ),
        Choice(
            "normaliser",
            "fixed",
            "divide the attention that a token receives by 128, so that thresholds are relative to "
            "the average token at every length, or by the tokens that are left (live), which cuts "
            "long texts harder",
            values=("fixed", "live"),
        ),
        Choice(
            "lambda",
            0.01,
            "weight of the mean shares of tokens kept, summed over layers, in the loss; the more "
            "of it, the fewer tokens. The published commands use 0.1, which left next to none of "
            "short texts",
            low=1e-3,
            high=0.4,
            log=True,
            requires=_LEARNED,
        ),
        Choice(
            "temperature",
            1e-3,
            "softness of the masks that thresholds are learned with; the smaller, the nearer to "
            "hard masks and the fewer tokens thresholds learn from",
            low=1e-5,
            high=1e-2,
            log=True,
            requires=_LEARNED,
        ),
        Choice(
            "threshold_lr",
            1e-4,
            "peak learning rate of thresholds, about as far as one step moves them; the published "
            "2e-5 needs a thousand steps to move them by 0.01, and 4000 rows make 125 an epoch",
            low=1e-6,
            high=1e-3,
            log=True,
            requires=_LEARNED,
        ),
        Choice(
            "soft_epochs",
            2,
            "passes over the training rows with soft masks",
            values=(1, 2, 3, 5),
            requires=_LEARNED,
        ),
        Choice(
            "hard_epochs",
            1,
            "passes over the training rows with hard masks, thresholds held",
            values=(0, 1, 2),
            unless=_UNTRAINED,
        ),
        Choice(
            "lr",
            5e-5,
            "peak learning rate of the weights",
            low=5e-6,
            high=1e-4,
            log=True,
            unless=_UNTRAINED,
        ),
    )
    slot: ClassVar[Slot] = "tokens"

    def passes(self, choices: Mapping[str, Value]) -> float:
        """Each epoch goes forward and back once over every row."""
        return 3.0 * (int(choices.get("soft_epochs", 0)) + int(choices.get("hard_epochs", 0)))

    def reach(self, shape: EncoderShape, histogram: LengthHistogram) -> CostRange:
        """From the first token alone behind the first layer's attention, up to every token.

        A layer without heads does not know what is attended to, and keeps what it is given.
        """
        has_cut = [any(shape.heads[: layer + 1]) for layer in range(shape.n_layers)]
        macs = 0
        for length, count in histogram.counts.items():
            kept = [1 if cut else length for cut in has_cut]
            macs += count * encoder_macs_at(shape, token_counts(length, kept, "ltp"))
        low = FLOPS_PER_MAC * macs / histogram.n
        return CostRange(low, mean_flops(shape, histogram))

    def apply(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        statistics: Mapping[str, torch.Tensor] | None,
        ladder: Sequence[float],
        progress: Progress,
    ) -> Iterator[Variant]:
        """Yields one model; its cost is what the thresholds make of it.

        Raises:
            ValueError: if the model has a token rule already, or training diverges.
        """
        from trimtab_strategies.ltp._training import prune_tokens

        yield prune_tokens(model, calibration, choices, progress)
