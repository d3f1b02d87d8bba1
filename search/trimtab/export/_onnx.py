"""A static point as an ONNX graph that was compared with the checkpoint before it has its name."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.emission._manifest import MANIFEST
from trimtab.errors import InputError

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabForSequenceClassification

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MOST_BYTES = 2_000_000_000
"""Of weights in a single file: its format counts no further than two GiB."""


@dataclass(frozen=True)
class Exported:
    """A graph that was written, with what it takes, and how far it is from the checkpoint.

    ``max_logit_difference`` is the largest over ``rows`` random texts of all lengths.
    """

    path: Path
    inputs: tuple[str, ...]
    rows: int
    max_logit_difference: float

    def to_plain(self) -> dict[str, Any]:
        """Gives it as JSON has it."""
        return {**asdict(self), "path": str(self.path), "inputs": list(self.inputs)}


def export_onnx(
    checkpoint: str | Path | TrimtabForSequenceClassification,
    file: str | Path,
    *,
    force: bool = False,
) -> Exported:
    """Writes a static point as an ONNX graph, for texts of any number and length.

    The graph takes ``input_ids``, ``attention_mask`` and, where the family has several, token types
    (``token_type_ids``), all [batch, length] of int64, and gives ``logits`` [batch, classes]. It
    takes its name only once onnxruntime gives the checkpoint's logits within 0.001.

    Args:
        checkpoint: A folder, whose hashes are checked, or a model that ``load`` gave, at the
            setting of its knobs that it has.
        file: Where to write.
        force: Whether a file that is there is replaced.

    Raises:
        InputError: if a package is missing (``pip install trimtab[onnx]``), the file cannot be
            written, or the model is not static, not fp32, or too large for a single file.
        CheckpointError: if the folder is not as it was written.
        TrimtabError: if the logits differ; no file is left then.
    """
    target = Path(file)
    _check_packages()
    _check_target(target, force)
    model = _loaded(checkpoint)
    _check_model(model, checkpoint if isinstance(checkpoint, str | Path) else "this model")
    partial = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:8]}"
    try:
        return _write(model, partial, target, force)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}): name another file"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _write(
    model: TrimtabForSequenceClassification, partial: Path, target: Path, force: bool
) -> Exported:
    from trimtab.export._graph import inputs_of, write_graph
    from trimtab.export._parity import ROWS, check_parity

    write_graph(model, partial)
    difference = check_parity(model, partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    _check_target(target, force)
    partial.replace(target)
    return Exported(target, inputs_of(model.config), ROWS, difference)


def _loaded(
    checkpoint: str | Path | TrimtabForSequenceClassification,
) -> TrimtabForSequenceClassification:
    if not isinstance(checkpoint, str | Path):
        return checkpoint
    from trimtab.emission._load import load

    return load(checkpoint)


def _check_packages() -> None:
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(
                f"ONNX needs the package {name}, which cannot be imported ({error}): "
                "pip install 'trimtab[onnx]'"
            ) from error


def _check_target(target: Path, force: bool) -> None:
    if target.is_dir():
        raise InputError(f"{target} must be a file to write, but it is a folder: name a file in it")
    if not target.parent.is_dir():
        raise InputError(f"{target} must lie in a folder that exists, but {target.parent} does not")
    if (target.parent / MANIFEST).is_file():
        raise InputError(
            f"{target} must lie outside of {target.parent}, a checkpoint whose files are all known"
        )
    if target.exists() and not force:
        raise InputError(f"{target} exists already: name another file, or pass --force")


def _check_model(model: TrimtabForSequenceClassification, name: object) -> None:
    import torch

    from trimtab_strategies.elastic.plain_trimtab import what_acts

    if reason := what_acts(model):
        raise InputError(
            f"only a static point can become an ONNX graph, but {name} is none: {reason} at knobs "
            f"{model.config.knobs or '{}'}; search with `strategies: [fisher]`, or, if it has "
            "exits alone, set `model.config.knobs = {}` and export the model"
        )
    if model.training:
        raise InputError(f"{name} must be in evaluation mode, but it is in training: call .eval()")
    weights = [*model.parameters(), *model.buffers()]
    if any(each.dtype is not torch.float32 for each in weights) or model.device.type != "cpu":
        raise InputError(
            f"ONNX graphs are written from fp32 on the CPU, but {name} is {model.dtype} on "
            f"{model.device}: load it without dtype and device"
        )
    size = sum(each.numel() * each.element_size() for each in weights)
    if size > MOST_BYTES:
        raise InputError(
            f"an ONNX file holds at most {MOST_BYTES / 1e9:.0f} GB of weights, but {name} has "
            f"{size / 1e9:.1f} GB: emit a smaller point"
        )
