"""Stored logits: random token sequences with what a model says of them, to know it again by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs._place import Place, load_elastic

N_SEQUENCES = 8
LONGEST = 32


@dataclass(frozen=True)
class Reference:
    """Token sequences without any user's text, and the logits that the saved weights give."""

    input_ids: list[list[int]]
    logits: list[list[float]]
    lengths: dict[int, int]
    """The workload that costs were counted on: how many samples have how many tokens."""


@dataclass(frozen=True)
class ReferenceJob:
    """Runs a saved artifact on seeded random token sequences."""

    place: Place
    key: str
    knobs: Mapping[str, Any] = field(default_factory=dict)

    def run(self, context: WorkerContext) -> Reference:
        """Gives eight sequences of growing length with their logits, one row at a time.

        Whatever the worker's device, this runs on the CPU: so does who compares with it later, and
        devices differ by more than such a comparison allows.
        """
        import torch

        model = load_elastic(self.place.files.path(self.key))
        model.config.knobs = dict(self.knobs)
        generator = torch.Generator().manual_seed(self.place.task.seed)
        longest = min(LONGEST, model.config.max_position_embeddings - 2)
        sequences, logits = [], []
        for index in range(N_SEQUENCES):
            length = max(1, longest * (index + 1) // N_SEQUENCES)
            ids = torch.randint(model.config.vocab_size, (1, length), generator=generator)
            # Padding has no meaning of its own inside a sequence, and RoBERTa would not count it.
            ids[ids == model.config.pad_token_id] = (model.config.pad_token_id + 1) % 2
            with torch.inference_mode():
                out = model(ids).logits[0]
            sequences.append(ids[0].tolist())
            logits.append([float(value) for value in out])
        return Reference(sequences, logits, dict(self.place.histogram(context).counts))
