"""Batches of rows of near-equal length, padded to their longest and no further."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab_workers.data import Encoded

Ids = NDArray[np.int64]

POOL_BATCHES = 50  # batches that are sorted by length together when rows are shuffled
FEWEST_POOLS = 4


def length_sorted_batches(
    encoded: Encoded, batch_size: int, *, seed: int | Sequence[int] | None = None
) -> list[Ids]:
    """Groups rows of near-equal length.

    Args:
        encoded: The rows.
        batch_size: Rows in each batch but perhaps one.
        seed: None sorts all rows, the longest first, so that what does not fit in memory fails at
            once. A seed (or several numbers as one) shuffles for training: rows change partners
            within random pools, and batches come in random order.

    Returns:
        Row numbers of each batch; together every row once.
    """
    lengths = encoded.lengths
    if seed is None:
        return _chunks(np.argsort(-lengths, kind="stable"), batch_size)
    random = np.random.default_rng(seed)
    order = random.permutation(len(encoded))
    pool = batch_size * max(1, min(POOL_BATCHES, len(order) // (FEWEST_POOLS * batch_size)))
    sorted_pools = [
        rows[np.argsort(-lengths[rows], kind="stable")] for rows in _chunks(order, pool)
    ]
    batches = [batch for rows in sorted_pools for batch in _chunks(rows, batch_size)]
    return [batches[place] for place in random.permutation(len(batches))]


def collate(
    encoded: Encoded, indices: Ids, pad_token_id: int, device: torch.device
) -> dict[str, Tensor]:
    """Makes the tensors of one batch.

    Args:
        encoded: The rows.
        indices: Which of them, in this order.
        pad_token_id: Fills rows shorter than the batch's longest.
        device: Where the tensors go.

    Returns:
        `input_ids`, `attention_mask` and, where the rows have them, `token_type_ids`, each
        `(rows, longest)`; `labels` `(rows,)`. All int64.
    """
    rows = encoded.select(indices)
    lengths = rows.lengths
    real = np.arange(lengths.max()) < lengths[:, None]  # (rows, longest)
    arrays = {
        "input_ids": _padded(rows.tokens, real, pad_token_id),
        "attention_mask": real.astype(np.int64),
        "labels": rows.labels,
    }
    if rows.token_types is not None:
        arrays["token_type_ids"] = _padded(rows.token_types, real, 0)
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def _chunks(rows: Ids, size: int) -> list[Ids]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _padded(values: NDArray[np.int32], real: NDArray[np.bool_], filler: int) -> Ids:
    table = np.full(real.shape, filler, dtype=np.int64)
    table[real] = values
    return table
