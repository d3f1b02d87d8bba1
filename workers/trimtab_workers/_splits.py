"""Stratified splits of rows, by seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trimtab_workers.errors import DataError

Ids = NDArray[np.int64]

SMALLEST_HALF = 50
HELD_OUT_SHARE = 0.1
MOST_HELD_OUT = 500


def halve(labels: Ids, seed: int, *, shown: str = "validation") -> tuple[Ids, Ids]:
    """Halves the validation rows into `search` and `certify`, stratified by class.

    A class with a single row cannot be halved; its row goes to `search`.

    Returns:
        The row numbers of both halves, ascending.

    Raises:
        DataError: A half would have fewer than 50 rows.
    """
    counts = np.bincount(labels)
    lone = np.flatnonzero(counts[labels] == 1)
    rest = np.flatnonzero(counts[labels] > 1)
    if len(rest) // 2 < SMALLEST_HALF:
        single = f" ({len(lone)} of them the only one of their class)" if len(lone) else ""
        raise DataError(
            f"{shown}: the rows are halved into one part to search on and one to certify on, and "
            f"each must have at least {SMALLEST_HALF} rows, but there are only {len(labels)}"
            f"{single}; give at least {2 * SMALLEST_HALF + len(lone)}"
        )
    from sklearn.model_selection import train_test_split

    certify, search = train_test_split(
        rest, test_size=0.5, random_state=seed % 2**32, stratify=labels[rest]
    )
    return np.sort(np.concatenate([lone, search])), np.sort(certify)


def hold_out(labels: Ids, seed: int) -> tuple[Ids, Ids]:
    """Takes a tenth of the training rows, 500 at most, to choose the best epoch on.

    Each class gives its share, and at least one row as long as another stays to train on.

    Returns:
        The row numbers to train on and those held out, ascending.

    Raises:
        DataError: No class has two rows.
    """
    order = np.random.default_rng(seed % 2**32).permutation(len(labels))
    share = min(HELD_OUT_SHARE, MOST_HELD_OUT / max(len(labels), 1))
    ranks, rows = [], []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        quota = max(1, int(share * len(members))) if len(members) > 1 else 0
        rows.append(members[:quota])
        ranks.append(np.arange(quota))
    # where the cap bites, every class keeps its first row before any gets its second
    by_rank = np.argsort(np.concatenate(ranks), kind="stable")
    held_out = np.sort(np.concatenate(rows)[by_rank[:MOST_HELD_OUT]])
    if len(held_out) == 0:
        raise DataError(
            "fine-tuning holds out some rows to choose the best epoch, so a class must have at "
            f"least two rows, but none of {len(labels)} training rows shares its class"
        )
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out
