"""Do models that let go of tokens or samples get faster as their FLOPs say?

Learned token pruning (LTP), attention context contribution (ACC), early exits, and Magic Pyramid
(LTP and exits at once) on the encoder as it is, set by their own knobs to half and to a quarter of
the dense encoder's FLOPs; against the stock transformers model (SDPA) on the same length-sorted
batches, which are padded to their own longest row only. Nothing is trained, since a time does not
ask who is right: thresholds rise in a straight line, shares are equal, and exits have random
weights, centred and scaled so that some samples are sure and others are not at every exit. Exits
attend, as they do by default; exits that read the mean of the tokens are timed beside them.

FLOPs are the exact mean over the very rows that are timed, by replaying one recorded pass: tokens
left after each layer, the exit where each sample leaves, and every exit read on the way. The last
layer of our model runs for the first token only, which alone is read; the FLOPs of neither side
take that into account. The two models of a kind, the stock model and our unpruned one take turns
batch by batch, so that a change of the machine's speed meets them all; at batch 1 in turns of 16,
as a model that serves alone has its weights at hand. No more than these four at once: oneDNN
remembers a thousand kernels, one for each form of a product, and a dozen models have more.

Our models keep their weights laid out, as loaded checkpoints do, and the stock model does not; so
each row also has the quotient to our own unpruned model. The figures are the worst configuration's
ratio of latencies divided by its ratio of FLOPs, both against the stock model. At batch
1, exits are timed on short texts, and token pruning on texts of at least 100 tokens, at half the
FLOPs; rows at a quarter are measured beside them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import _paragraphs
import _untrained
import numpy as np
from _paragraphs import Batch

WORST_OF = "(latency ratio) / (FLOPs ratio), batch 32, worst of LTP, ACC, exits and Magic Pyramid"
BENCHMARKS = [
    {"name": "speed-follows-flops-half", "goal": 1.10, "unit": WORST_OF, "better": "lower"},
    {"name": "speed-follows-flops-quarter", "goal": 1.20, "unit": WORST_OF, "better": "lower"},
    {
        "name": "speed-follows-flops-one",
        "goal": 1.25,
        "unit": "(latency ratio) / (FLOPs ratio), batch 1, worst of exits (short texts) and of LTP "
        "and ACC (texts of at least 100 tokens)",
        "better": "lower",
    },
]
BATCH_SIZE, ROWS, ROWS_ONE, ROUNDS = 32, 640, 128, 5
IN_A_ROW = 16
LEAST_LONG = 100
HALF, QUARTER = 0.5, 0.25
BASELINE = "stock transformers BERT, SDPA, unpadded by length-sorting, same batches, same run"


@dataclass(frozen=True)
class Configuration:
    """A model with its knobs set, and its FLOPs on the rows that it is timed on."""

    name: str
    share: float
    model: Any
    flops_ratio: float


Maker = Callable[[Any, Sequence[Batch], float], Configuration]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the three figures and, as rows, each configuration's ratios and times."""
    short = _paragraphs.short_rows(seed, ROWS)
    few = (short[0], short[1].select(np.arange(min(ROWS_ONE, len(short[1])))))
    long = _paragraphs.long_rows(seed, ROWS_ONE, LEAST_LONG)
    rows = _measure(*short, BATCH_SIZE, (ltp, acc, exits, mean_exits, magic_pyramid))
    ones = _measure(*few, 1, (exits, mean_exits)) + _measure(*long, 1, (ltp, acc))
    return {
        "speed-follows-flops-half": _figure(rows, HALF, seed),
        "speed-follows-flops-quarter": _figure(rows, QUARTER, seed),
        "speed-follows-flops-one": {**_figure(ones, HALF, seed), "rows": ones},
    }


def _figure(rows: list[dict[str, Any]], share: float, seed: int) -> dict[str, Any]:
    own = [row for row in rows if row["share"] == share]
    worst = max(row["quotient"] for row in own)
    return {"figure": worst, "baseline": BASELINE, "seeds": [seed], "rows": own}


def _measure(source: str, texts: Any, size: int, makers: Sequence[Maker]) -> list[dict[str, Any]]:
    stock, dense = _paragraphs.models()
    to_count = _paragraphs.batches_by_length(texts, BATCH_SIZE)  # FLOPs do not depend on batches
    batches = _paragraphs.batches_by_length(texts, size)
    in_a_row = IN_A_ROW if size == 1 else 1
    about = {
        "texts": source,
        "mean_tokens": float(texts.lengths.mean()),
        "batch_size": size,
        "batches_in_a_row": in_a_row,
    }
    rows = []
    for make in makers:
        made = [make(dense, to_count, share) for share in (HALF, QUARTER)]
        models = {"stock": stock, "dense": dense} | {f"{one.share}": one.model for one in made}
        contestants = {name: (model, batches) for name, model in models.items()}
        seconds = _paragraphs.take_turns(contestants, ROUNDS, in_a_row)
        unpruned = seconds["stock"], seconds["dense"]
        rows += [{**_row(one, *unpruned, seconds[f"{one.share}"]), **about} for one in made]
    return rows


def _row(
    one: Configuration, stock: list[float], dense: list[float], ours: list[float]
) -> dict[str, Any]:
    latency, of_dense = (
        statistics.median(second / first for first, second in zip(unpruned, ours, strict=True))
        for unpruned in (stock, dense)
    )
    return {
        "configuration": one.name,
        "share": one.share,
        "latency_ratio": latency,
        "flops_ratio": one.flops_ratio,
        "quotient": latency / one.flops_ratio,
        "quotient_to_own_dense": of_dense / one.flops_ratio,
        "knobs": one.model.config.knobs,
        "stock_s": stock,
        "ours_s": ours,
    }


# Configurations


def ltp(dense: Any, batches: Sequence[Batch], share: float) -> Configuration:
    """Sets one factor on thresholds that rise in a straight line."""
    model = _untrained.with_thresholds(dense)
    ratio = _set_scale(model, batches, share, "delta_scale", 0.0, 10.0)
    return Configuration("LTP", share, model, ratio)


def acc(dense: Any, batches: Sequence[Batch], share: float) -> Configuration:
    """Sets the one share of its tokens that every layer keeps."""
    shares = [1.0] * dense.config.num_hidden_layers
    model = _untrained.copied(dense, token_rule={"kind": "share", "shares": shares})
    ratio = _set_scale(model, batches, share, "alpha_sc", 1.0, 0.0)
    return Configuration("ACC", share, model, ratio)


def exits(dense: Any, batches: Sequence[Batch], share: float) -> Configuration:
    """Sets how sure a sample must be to leave."""
    model = _untrained.with_exits(dense, batches, *_default_exit())
    return Configuration("exits", share, model, _set_tau(model, batches, share))


def mean_exits(dense: Any, batches: Sequence[Batch], share: float) -> Configuration:
    """Does the same for exits that read the mean of the tokens."""
    model = _untrained.with_exits(dense, batches)
    return Configuration("exits (mean)", share, model, _set_tau(model, batches, share))


def magic_pyramid(dense: Any, batches: Sequence[Batch], share: float) -> Configuration:
    """Lets thresholds and exits save about the same: the root of the share each."""
    pruned = _untrained.with_thresholds(dense)
    _set_scale(pruned, batches, share**0.5, "delta_scale", 0.0, 10.0)
    model = _untrained.with_exits(pruned, batches, *_default_exit())
    return Configuration("Magic Pyramid", share, model, _set_tau(model, batches, share))


def _default_exit() -> tuple[str, str, int]:
    from trimtab_strategies import registry
    from trimtab_strategies.base import default_choices

    choices = default_choices(registry.get("early_exit"))
    # One that attends reads no one vector.
    return str(choices["head"]), str(choices.get("read", "first")), int(choices["width"])


# Knobs


def _set_scale(
    model: Any, batches: Sequence[Batch], share: float, knob: str, dear: float, cheap: float
) -> float:
    """Sets a token rule's knob between two ends so that FLOPs come to a share; gives the share."""

    def ratio_at(scale: float) -> float:
        model.config.knobs[knob] = scale
        return float(_flops_ratios(model, _untrained.recorded(model, batches))[:, -1].mean())

    model.config.knobs[knob] = _untrained.bisected(ratio_at, dear, cheap, share)
    return ratio_at(model.config.knobs[knob])


def _set_tau(model: Any, batches: Sequence[Batch], share: float) -> float:
    """Sets ``tau`` to where the replayed curve is nearest to a share of the FLOPs; gives it."""
    from trimtab_strategies.replay import leaves_by_entropy, sweep_entropy, uncertainty

    records = _untrained.recorded(model, batches)
    ratios, unsure = _flops_ratios(model, records), uncertainty(records.exit_logits)
    curve = sweep_entropy(unsure, ratios[:, :, None])
    at = int(np.abs(curve.sums[:, 0] / len(ratios) - share).argmin())
    # Between two settings the outcome is the lower one's, and rounding cannot change it.
    model.config.knobs["tau"] = tau = float(curve.settings[at : at + 2].mean())
    return float(ratios[np.arange(len(ratios)), leaves_by_entropy(unsure, tau)].mean())


def _flops_ratios(model: Any, records: Any) -> Any:
    """Gives what each sample costs, [N, E+1], for leaving at each exit or at the end.

    In units of the dense encoder's mean FLOPs on the same rows.
    """
    from trimtab_strategies.cost import FLOPS_PER_MAC, LengthHistogram, mean_flops
    from trimtab_strategies.outcomes import Pricing

    pricing = Pricing.of(model.config.to_dict())
    macs = pricing.macs(records, range(len(records.exit_layers)))
    dense = mean_flops(pricing.shape, LengthHistogram.from_lengths(records.lengths))
    return FLOPS_PER_MAC * macs / dense
