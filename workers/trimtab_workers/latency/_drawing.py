"""Drawing texts for requests; apart, so that a workload can be named without numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_workers.data import Encoded
from trimtab_workers.latency.workload import Workload


def drawn_rows(rows: Encoded, workload: Workload, n_requests: int) -> Encoded:
    """Draws the texts of all requests, of the lengths that the workload names."""
    random, n_texts = np.random.default_rng(workload.seed), n_requests * workload.batch_size
    texts = rows.select(_drawn(len(rows), n_texts, random))
    if workload.lengths is None:
        return texts
    wanted = np.array(workload.lengths)[_drawn(len(workload.lengths), n_texts, random)]
    return _of_lengths(rows, wanted, random)


def as_requests(texts: Encoded, batch_size: int) -> tuple[Encoded, list[NDArray[np.int64]]]:
    """Gives the texts, and the row numbers of each request of so many."""
    places = np.arange(len(texts))
    return texts, [places[i : i + batch_size] for i in places[::batch_size]]


def _drawn(n: int, n_wanted: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draws numbers below ``n``: each once before any comes again."""
    rounds = -(-n_wanted // n)
    return np.concatenate([random.permutation(n) for _ in range(rounds)])[:n_wanted]


def _of_lengths(rows: Encoded, wanted: NDArray[Any], random: np.random.Generator) -> Encoded:
    order = np.argsort(rows.lengths, kind="stable")
    first = np.minimum(np.searchsorted(rows.lengths[order], wanted), len(order) - 1)
    return _cut(rows.select(order[random.integers(first, len(order))]), wanted)


def _cut(texts: Encoded, lengths: NDArray[Any]) -> Encoded:
    """Cuts each text to its length; the last token, which ends it, stays the last."""
    place = np.arange(len(texts.tokens)) - np.repeat(texts.offsets[:-1], texts.lengths)
    last = np.repeat(texts.lengths, texts.lengths) - 1
    stays = (place < np.repeat(lengths, texts.lengths) - 1) | (place == last)
    counts = np.minimum(texts.lengths, lengths)
    return Encoded(
        tokens=texts.tokens[stays],
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        labels=texts.labels,
        token_types=None if texts.token_types is None else texts.token_types[stays],
    )
