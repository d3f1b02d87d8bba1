"""Verifying a checkpoint: files, tensors, stored logits and costs; on labelled rows the metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.emission._load import load_checked
from trimtab.emission._manifest import CheckpointError, check_files
from trimtab_strategies.cost import LengthHistogram, mean_flops
from trimtab_workers.errors import DataError
from trimtab_workers.task import DataSource

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabForSequenceClassification

TOLERANCE = 1e-5
"""How far logits may differ from the stored ones, relative to 1 or to the logit, if larger."""


def verify(folder: str | Path, on: str | Path | None = None) -> dict[str, Any]:
    """Checks a checkpoint from the outside in; what it gives is what was found.

    Args:
        folder: The checkpoint.
        on: A labelled file with the columns that the model was trained on.

    Returns:
        ``files``, ``tensors``, ``max_logit_difference``, ``flops``, ``params`` and, with ``on``,
        ``metric``, ``metric_name``, ``n`` and ``flops_on`` (mean FLOPs at that file's lengths).

    Raises:
        CheckpointError: naming the first thing that does not hold.
        DataError: if the file cannot be worked with.
    """
    path = Path(folder)
    manifest = check_files(path)
    model = load_checked(path, manifest)
    found = {
        "files": len(manifest["files"]),
        "tensors": len(manifest["tensors"]),
        "max_logit_difference": _check_logits(model, manifest),
        "flops": _check_cost(model, manifest),
        "params": model.num_parameters(),
    }
    if on is not None:
        found |= _measure_on(path, model, manifest, Path(on))
    return found


def _check_logits(model: TrimtabForSequenceClassification, manifest: dict[str, Any]) -> float:
    import torch

    worst = 0.0
    stored = manifest["reference"]
    for ids, logits in zip(stored["input_ids"], stored["logits"], strict=True):
        expected = torch.tensor(logits)
        try:
            with torch.inference_mode():
                now = model(torch.tensor([ids])).logits[0]
        except (IndexError, RuntimeError):
            now = torch.empty(0)
        if now.shape != expected.shape:
            raise CheckpointError(
                "the stored sequences and logits must be of this model's vocabulary and classes"
            )
        difference = float(((now - expected).abs() / expected.abs().clamp(min=1)).max())
        # Also false for nan, which `max` would pass over.
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"logits must equal the stored ones within {TOLERANCE}, but differ by "
                f"{difference:.2g}"
            )
        worst = max(worst, difference)
    return worst


def _check_cost(model: TrimtabForSequenceClassification, manifest: dict[str, Any]) -> float:
    from trimtab_strategies.slicing import shape_of
    from trimtab_workers.sweeping import has_knobs

    lengths = {int(length): count for length, count in manifest["workload"].items()}
    flops = mean_flops(shape_of(model.config), LengthHistogram(lengths))
    expected = manifest["point"]
    # With knobs it depends on the texts, which are not here; what was measured is taken over.
    is_static = not has_knobs(model)
    if (is_static and flops != expected["flops"]) or model.num_parameters() != expected["params"]:
        raise CheckpointError(
            f"the model must have {expected['flops']:.0f} FLOPs and {expected['params']} "
            f"parameters, but has {flops:.0f} and {model.num_parameters()}"
        )
    return flops if is_static else float(expected["flops"])


def _measure_on(
    folder: Path, model: TrimtabForSequenceClassification, manifest: dict[str, Any], file: Path
) -> dict[str, Any]:
    from trimtab_strategies.slicing import shape_of
    from trimtab_workers.devices import pick_device
    from trimtab_workers.evaluation import evaluate
    from trimtab_workers.labelled import load_labelled
    from trimtab_workers.sweeping import flops_at, has_knobs

    task = manifest["task"]
    if not file.is_file():
        raise DataError(f"{file}: there is no such file; --on must name a labelled file")
    rows = load_labelled(
        DataSource(path=str(file.absolute())),
        folder,
        model.config,
        text=tuple(task["text"]),
        label=task["label"],
        max_length=task["max_length"],
    )
    result = evaluate(
        model,
        rows,
        metric=task["metric"],
        pad_token_id=model.config.pad_token_id,
        device=pick_device("auto"),
    )
    lengths = LengthHistogram.from_lengths(int(length) for length in rows.lengths)
    return {
        "metric_name": task["metric"],
        "metric": result.metric,
        "n": len(rows),
        "flops_on": flops_at(model, rows, lengths)
        if has_knobs(model)
        else mean_flops(shape_of(model.config), lengths),
    }
