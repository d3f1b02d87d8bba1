"""What bf16, compiling and ONNX add where a model is served, and what they add to the dense one.

A MiniLM and the same with uneven widths, about half of its heads and filters, answer real texts on
one CPU thread: as loaded (fp32, packed), in bf16, compiled, and as an ONNX graph in onnxruntime.
All take turns over the same requests. A figure is the time of the small model with an option by its
time as loaded, at the median text. The dense model gets the same treatment, and rows have its times
too, so that a speed-up can be told with both sides treated alike.

Single texts are what compiling is for; batches of 16 in no order of length are in the rows alone.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import _paragraphs

OPTIONS = {"bf16": 0.8, "compiled": 0.95, "onnx": 1.0}
BENCHMARKS = [
    {
        "name": f"option-{option}",
        "goal": goal,
        "unit": "time / time as loaded, single texts, half the widths, one thread",
        "better": "lower",
    }
    for option, goal in OPTIONS.items()
]
HEADS = (8, 7, 6, 6, 5, 4)
FILTERS = (1000, 900, 800, 700, 600, 500)
REQUESTS = {1: 48, 16: 12}
LIMIT_S = {1: 120.0, 16: 120.0}
AS_LOADED, DENSE, SMALL = "fp32", "dense", "small"


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the figures and, as rows, what each model took on each request."""
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        models = {
            f"{who} {option}": model
            for who, made in _models().items()
            for option, model in _options(made, Path(folder) / f"{who}.onnx").items()
        }
        for size, count in REQUESTS.items():
            took = _timed(models, _requests(seed, size, count), LIMIT_S[size])
            rows += [_row(name, size, ms, took) for name, ms in took.items()]
            if size == 1:
                figures = {option: _ratio(took, SMALL, option) for option in OPTIONS}
    baseline = "the same model as trimtab.load gives it: fp32, packed, weights laid out"
    return {
        f"option-{option}": {
            "figure": figure,
            "baseline": baseline,
            "seeds": [seed],
            "rows": rows,
        }
        for option, figure in figures.items()
    }


def _models() -> dict[str, Any]:
    import torch

    from trimtab_strategies.slicing import ones_like_gates, slice_model

    _, dense = _paragraphs.models()
    gates = ones_like_gates(dense)
    for layer, (heads, filters) in enumerate(zip(HEADS, FILTERS, strict=True)):
        gates.heads[layer][heads:], gates.filters[layer][filters:] = 0, 0
    torch.set_num_threads(1)
    return {DENSE: dense.eval(), SMALL: slice_model(dense, gates).eval()}


def _options(model: Any, file: Path) -> dict[str, Any]:
    import trimtab
    from trimtab_workers.precision import set_precision

    made = {name: copy.deepcopy(model) for name in (AS_LOADED, "bf16", "compiled")}
    set_precision(made["bf16"], "bf16")
    for each in made.values():
        each.keep_layouts()
    made["compiled"].keep_compiled()
    trimtab.export_onnx(model, file)
    return {**made, "onnx": _session(file)}


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}

    def call(**request: Any) -> Any:
        given = {name: part.numpy() for name, part in request.items() if name in names}
        return session.run(["logits"], given)

    return call


def _requests(seed: int, size: int, count: int) -> list[dict[str, Any]]:
    import torch

    _, texts = _paragraphs.short_rows(seed, size * count)
    batches = _paragraphs.batches_as_filed(texts, size)
    return [
        {
            "input_ids": batch["input_ids"].long(),
            "attention_mask": batch["attention_mask"].long(),
            "token_type_ids": torch.zeros_like(batch["input_ids"]).long(),
        }
        for batch in batches
    ]


def _timed(models: dict[str, Any], requests: list[dict[str, Any]], limit_s: float) -> Any:
    """Gives what each model took on each request, in ms, at the median of the rounds."""
    import numpy as np
    import torch

    from trimtab_workers.latency.pairs import measure_pairs

    with torch.inference_mode():
        samples = measure_pairs(models, requests, device=torch.device("cpu"), limit_s=limit_s)
    return {name: np.median(ms, axis=1) for name, ms in samples.calm().ms.items()}


def _ratio(took: Any, who: str, option: str) -> float:
    import numpy as np

    return float(np.median(took[f"{who} {option}"] / took[f"{who} {AS_LOADED}"]))


def _row(name: str, size: int, ms: Any, took: Any) -> dict[str, Any]:
    import numpy as np

    who, option = name.split()
    dense = took[f"{DENSE} {option}"]
    return {
        "model": who,
        "option": option,
        "batch_size": size,
        "by_as_loaded": _ratio(took, who, option),
        "by_dense_with_the_same_option": float(np.median(ms / dense)),
        "ms": [round(float(value), 3) for value in ms],
    }
