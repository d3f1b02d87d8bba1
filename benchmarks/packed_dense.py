"""What does packing cost where nothing can be saved, and save where there is padding?

The dense elastic model against the stock transformers model (SDPA attention) with the same weights,
on the same real texts. Once both get the same length-sorted batches of 32, padded to their own
longest row only, so that packing cannot gain by leaving out padding. Once both get batches in the
order of the file, padded to 128 tokens, as published code does. For comparison the stock model also
runs on the batches in file order padded to their own longest row. The models take turns batch by
batch, so that a change of the machine's speed meets them all.

The last layer of our model runs for the first token only, which alone is read.
"""

from __future__ import annotations

import statistics
from typing import Any

import _paragraphs

BENCHMARKS = [
    {
        "name": "packed-dense",
        "goal": 1.0,
        "unit": "time / time of the stock model, both length-sorted, batch 32",
        "better": "lower",
    },
    {
        "name": "packed-dense-padded",
        "goal": 1.5,
        "unit": "x as fast as the padded, unsorted stock model on real text",
        "better": "higher",
    },
]
BATCH_SIZE, ROWS, ROUNDS = 32, 640, 7
STOCK_SORTED, OURS_SORTED = "stock, length-sorted", "ours, length-sorted"
STOCK_PADDED, OURS_PADDED = "stock, file order, padded to 128", "ours, file order, padded to 128"
STOCK_LONGEST = "stock, file order, padded to the batch's longest"


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives both figures and, as rows, the time of every round."""
    source, texts = _paragraphs.short_rows(seed, ROWS)
    seconds = _paragraphs.take_turns(_contestants(texts), ROUNDS)
    rows = [
        {"who": name, "texts": source, "mean_tokens": float(texts.lengths.mean()), "s": times}
        for name, times in seconds.items()
    ]
    common = {"seeds": [seed], "rows": rows}
    return {
        "packed-dense": {
            "figure": _ratio(seconds[OURS_SORTED], seconds[STOCK_SORTED]),
            "baseline": "stock transformers BERT, SDPA, unpadded by length-sorting, same batches",
            **common,
        },
        "packed-dense-padded": {
            "figure": _ratio(seconds[STOCK_PADDED], seconds[OURS_PADDED]),
            "baseline": "stock transformers BERT, SDPA, file order, padded to 128, same batches",
            **common,
        },
    }


def _contestants(texts: Any) -> dict[str, _paragraphs.Contestant]:
    stock, ours = _paragraphs.models()
    by_length = _paragraphs.batches_by_length(texts, BATCH_SIZE)
    padded = _paragraphs.batches_as_filed(texts, BATCH_SIZE, _paragraphs.MAX_LENGTH)
    return {
        STOCK_SORTED: (stock, by_length),
        OURS_SORTED: (ours, by_length),
        STOCK_PADDED: (stock, padded),
        OURS_PADDED: (ours, padded),
        STOCK_LONGEST: (stock, _paragraphs.batches_as_filed(texts, BATCH_SIZE)),
    }


def _ratio(times: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(times, others, strict=True))
