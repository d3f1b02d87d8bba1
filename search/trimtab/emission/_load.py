"""Loading a checkpoint with one call: hashes checked, every tensor in its place, no remote code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.emission._manifest import CheckpointError, check_files
from trimtab.errors import InputError

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification


def load(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: str | torch.dtype = "fp32",
    compile: bool = False,
) -> TrimtabForSequenceClassification:
    """Loads a checkpoint as a transformers ``PreTrainedModel`` in eval mode.

    The modelling code beside the weights is not run: the installed package's is. On the CPU it
    keeps its weights in the layout that the processor multiplies in (``model.keep_layouts``), until
    it is trained.

    Args:
        folder: The checkpoint.
        device: ``cpu``, ``cuda``, ``cuda:0``, ``mps`` or ``auto``, the first of these there is.
        dtype: ``fp32`` or ``bf16``, or torch's name of it. bf16 rounds to 8 bits: logits change in
            the third digit, and a text near a threshold may leave elsewhere.
        compile: Has torch compile the model for single texts, once for all lengths, which takes up
            to a minute here; logits stay the same up to rounding. Batches stay packed, which is
            faster on the CPU than what is compiled; on others that was not measured. For static
            points, where no token goes and no sample leaves: others gain nothing.

    Raises:
        CheckpointError: if any byte of the folder was changed, or a tensor is missing,
            unexpected or of another shape.
        InputError: if the model cannot be compiled: it is not static, or there is no compiler.
        WorkerInputError: if there is no such device or dtype, or the device does not compute it.
    """
    from trimtab_workers.devices import pick_device
    from trimtab_workers.precision import set_precision

    path, where = Path(folder), pick_device(device)
    model = load_checked(path, check_files(path))
    model.to(where)
    set_precision(model, dtype).keep_layouts()
    if compile:
        _compile(path, model)
    return model


def _compile(path: Path, model: TrimtabForSequenceClassification) -> None:
    """Compiles here and now, so that what stands in the way is said here too."""
    import torch

    from trimtab_strategies.elastic.plain_trimtab import what_acts

    if reason := what_acts(model):
        raise InputError(
            f"compile=True helps static points only, but {path} is none: {reason}; leave it out"
        )
    model.keep_compiled()
    ids = torch.full((1, 8), model.config.pad_token_id, device=model.device)
    try:
        with torch.no_grad():
            model(ids)
    except Exception as error:
        # Whatever torch or the compiler raise: the model itself ran when it was measured.
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"compile=True needs a compiler that torch can use, but compiling failed: {said}; "
            "install a C++ compiler such as g++, or leave compile out"
        ) from error


def load_checked(path: Path, manifest: dict[str, Any]) -> TrimtabForSequenceClassification:
    """Loads the weights of a checkpoint whose files were checked already."""
    import trimtab.hf  # noqa: F401  (registers the classes, so that AutoTokenizer works as well)
    from trimtab_workers.jobs import load_elastic

    try:
        model = load_elastic(path)
    except Exception as error:
        # Whatever transformers, torch or safetensors raise, it is the folder that is wrong.
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error
    found = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if found != manifest["tensors"]:
        raise CheckpointError(f"the tensors of {path} are not those that were written")
    return model
