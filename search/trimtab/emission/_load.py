"""Loading a checkpoint with one call: hashes checked, every tensor in its place, no remote code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.emission._manifest import CheckpointError, check_files

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabForSequenceClassification


def load(folder: str | Path) -> TrimtabForSequenceClassification:
    """Loads a checkpoint as a transformers ``PreTrainedModel`` in eval mode, on the CPU.

    The modelling code beside the weights is not run: the installed package's is. It is set to keep
    its weights in the layout that the processor multiplies in (``model.keep_layouts``), until it is
    trained.

    Raises:
        CheckpointError: if any byte of the folder was changed, or a tensor is missing,
            unexpected or of another shape.
    """
    path = Path(folder)
    model = load_checked(path, check_files(path))
    model.keep_layouts()
    return model


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
