"""Requests as plain arrays, which any process can time a model on without seeing a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trimtab_workers.data import Encoded
from trimtab_workers.latency._drawing import as_requests
from trimtab_workers.latency.workload import Workload, draw_requests

if TYPE_CHECKING:
    import torch

    from trimtab_workers.executors import WorkerContext
    from trimtab_workers.jobs._place import Place

TensorBatch = dict[str, "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class Requests:
    """Texts as token ids, in the order in which they are asked about, ``batch_size`` at a time."""

    texts: Encoded
    batch_size: int
    pad_token_id: int

    def __len__(self) -> int:
        return -(-len(self.texts) // self.batch_size)

    def tensors(self, device: torch.device) -> list[TensorBatch]:
        """Gives what a model is called with, request by request, on the device already."""
        from trimtab_workers.batching import collate

        _, requests = as_requests(self.texts, self.batch_size)
        batches = [collate(self.texts, rows, self.pad_token_id, device) for rows in requests]
        return [
            {name: part for name, part in batch.items() if name != "labels"} for batch in batches
        ]

    def save(self, path: Path) -> None:
        """Writes the arrays into an ``.npz`` file; the labels are left out."""
        arrays = {
            "tokens": self.texts.tokens,
            "offsets": self.texts.offsets,
            "settings": np.array([self.batch_size, self.pad_token_id], dtype=np.int64),
            "token_types": self.texts.token_types,
        }
        there: dict[str, Any] = {name: part for name, part in arrays.items() if part is not None}
        np.savez(path, **there)

    @classmethod
    def load(cls, path: Path) -> Requests:
        """Reads what :meth:`save` wrote; pickled objects are refused."""
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        batch_size, pad_token_id = (int(number) for number in parts.pop("settings"))
        labels = np.zeros(len(parts["offsets"]) - 1, dtype=np.int64)
        return cls(Encoded(**parts, labels=labels), batch_size, pad_token_id)


def requests_of(
    place: Place, context: WorkerContext, workload: Workload, n_requests: int
) -> Requests:
    """Draws a study's requests from its search rows: the same for the same workload."""
    data = place.data(context)
    texts, _ = draw_requests(data.search, workload, n_requests)
    return Requests(texts, workload.batch_size, data.pad_token_id)
