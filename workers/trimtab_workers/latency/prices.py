"""What a head or a block of filters adds to a request, by the table of parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.fisher.prices import Piecewise, Prices
from trimtab_workers.latency._adding import request_ms
from trimtab_workers.latency.predict import requests_of, statistics_of
from trimtab_workers.latency.table import LatencyTable
from trimtab_workers.latency.workload import Statistic, Workload

BLOCK = 16
"""Filters that come and go together. With 512 rows on a CPU, 511 filters take as long as 560 would
at the rate of 512, and 255 a tenth longer than 256; with 16 rows all widths go at one rate."""


def prices_of(
    table: LatencyTable,
    shape: EncoderShape,
    lengths: Sequence[int],
    workload: Workload,
    statistic: Statistic,
) -> Prices:
    """Fits what heads and filters take, as shares of what they all do in the dense model.

    Args:
        table: What parts take.
        shape: The dense model's widths.
        lengths: Tokens of the data's texts.
        workload: How requests are made of them.
        statistic: What of the requests' times the prices are to add up to.
    """
    known, none = np.asarray(lengths, dtype=np.int64), np.zeros(shape.n_layers)
    requests = known[requests_of(known, workload)]

    def ms(heads: NDArray[np.float64], filters: NDArray[np.float64]) -> float:
        return statistics_of(request_ms(table, list(heads), list(filters), requests))[statistic]

    nothing = ms(none, none)

    def of_heads(layers: NDArray[np.float64]) -> Piecewise:
        counts = range(1, max(1, *shape.heads) + 1)
        return Piecewise.fit([(ms(n * layers, none) - nothing) / layers.sum() for n in counts])

    def of_blocks(layers: NDArray[np.float64]) -> Piecewise:
        most = max(1, *shape.filters)
        counts = [min(n, most) for n in range(BLOCK, most + BLOCK, BLOCK)]
        return Piecewise.fit([(ms(none, n * layers) - nothing) / layers.sum() for n in counts])

    is_last = (np.arange(shape.n_layers) == shape.n_layers - 1).astype(float)
    others = 1 - is_last if shape.n_layers > 1 else is_last
    fits = of_heads(others), of_blocks(others), of_heads(is_last), of_blocks(is_last)
    return Prices(*fits, BLOCK).relative_to(shape)
