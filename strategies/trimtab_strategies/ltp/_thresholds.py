"""The thresholds that learned token pruning starts from.

Legend:
    L    layers, numbered from 1            Δ_l  threshold of layer l: tokens scoring above it stay
"""

from __future__ import annotations

import math


def linear_thresholds(last: float, n_layers: int) -> list[float]:
    """Gives thresholds that rise in a straight line to that of the last layer: Δ_l = Δ_L·l/L.

    Layers are counted from 1, as in the papers ([000], [001]); counted from 0, as in the published
    code, the first layer never prunes and the last never reaches Δ_L. A negative ``last`` is
    allowed: it prunes nothing.

    Args:
        last: Δ_L, in the unit of the scores (with scores over 128 tokens, about 0.01).
        n_layers: L.

    Raises:
        ValueError: if ``last`` is not finite or there is no layer.
    """
    if not math.isfinite(last):
        raise ValueError(f"the last layer's threshold must be finite, but got {last}")
    if n_layers < 1:
        raise ValueError(f"there must be at least one layer, but got {n_layers}")
    return [last * layer / n_layers for layer in range(1, n_layers + 1)]
