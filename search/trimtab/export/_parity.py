"""Comparing a written graph with the checkpoint, in onnxruntime, on texts of all lengths."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from trimtab.errors import TrimtabError
from trimtab.export._graph import OUTPUT, TYPES, inputs_of

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

TOLERANCE = 1e-3
ROWS = 32
BATCHES = (1, 3, 4, 8, 8, 8)
"""Texts of each batch, the shortest first; together as many as there are rows."""

Batch = dict[str, torch.Tensor]


def check_parity(model: TrimtabForSequenceClassification, file: Path) -> float:
    """Gives the largest difference of the graph's logits from the model's, on 32 random texts.

    Raises:
        TrimtabError: if that is more than 0.001, or no number, or the graph cannot be run.
    """
    import onnxruntime

    names = inputs_of(model.config)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    worst = 0.0
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        for batch in random_batches(model.config):
            with torch.no_grad():
                wanted = model(**batch).logits.numpy()
            (got,) = session.run([OUTPUT], {name: batch[name].numpy() for name in names})
            if got.shape != wanted.shape:
                raise _refused(float("nan"))
            # `max` passes nan on, and the comparison below is false for it.
            worst = float(np.maximum(worst, np.abs(got - wanted).max()))
    except TrimtabError:
        raise
    except Exception as error:
        # onnxruntime's own errors have no common base.
        said = str(error).strip().partition("\n")[0]
        raise TrimtabError(f"onnxruntime could not run the graph: {said}") from error
    if not worst <= TOLERANCE:
        raise _refused(worst)
    return worst


def random_batches(config: TrimtabConfig) -> Iterator[Batch]:
    """Yields padded batches of random texts, from one token to as many as the model takes."""
    generator = np.random.default_rng(0)
    lengths = iter(np.geomspace(1, _longest(config), ROWS).round().astype(int).tolist())
    for count in BATCHES:
        yield _batch(config, list(islice(lengths, count)), generator)


def _refused(difference: float) -> TrimtabError:
    return TrimtabError(
        f"the graph's logits must equal the checkpoint's within {TOLERANCE}, but differ by "
        f"{difference:.2g}, so the export is refused and nothing was written: try other versions "
        "of onnxscript and onnxruntime, or report this with `pip freeze`"
    )


def _batch(config: TrimtabConfig, lengths: list[int], generator: np.random.Generator) -> Batch:
    shape = len(lengths), max(lengths)
    real = np.arange(shape[1])[None, :] < np.array(lengths)[:, None]
    words = generator.integers(0, config.vocab_size, shape)
    words[words == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
    batch = {"input_ids": np.where(real, words, config.pad_token_id), "attention_mask": real * 1}
    if TYPES in inputs_of(config):
        batch[TYPES] = generator.integers(0, config.type_vocab_size, shape) * real
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def _longest(config: TrimtabConfig) -> int:
    # Positions of some families begin behind the padding's number.
    begin = config.pad_token_id + 1 if config.positions_skip_padding else 0
    return int(config.max_position_embeddings) - begin
