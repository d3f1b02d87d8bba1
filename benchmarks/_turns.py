"""Models that take turns at the same requests, timed on one thread's own processor clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TEXTS_OF_A_TURN, ROUNDS = 16, 3


def usual_ms(models: Sequence[Any], batches: Sequence[Mapping[str, Any]], size: int) -> Any:
    """Gives the milliseconds [models, requests] that each takes: the median of a few rounds.

    Single texts come some in a row, as a model that serves alone finds its weights in the cache.
    """
    in_a_row = max(1, TEXTS_OF_A_TURN // size)
    taken = np.empty((ROUNDS + 1, len(models), len(batches)))
    for done in range(ROUNDS + 1):
        for turn, first in enumerate(range(0, len(batches), in_a_row)):
            for place in np.roll(np.arange(len(models)), turn + done):
                for at in range(first, min(first + in_a_row, len(batches))):
                    taken[done, place, at] = _ms(models[place], batches[at])
    return np.median(taken[1:], axis=0)  # the first round only warms up


def _ms(model: Any, batch: Mapping[str, Any]) -> float:
    import torch

    with torch.inference_mode():
        started = time.thread_time()
        model(**batch)
        return (time.thread_time() - started) * 1e3
