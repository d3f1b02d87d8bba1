"""How many tokens each layer keeps, from how the layers spread their attention; paper [002].

Legend:
    L    layers, numbered from 1            T_l  tokens kept by layer l; T_0 all of a sample's
    E_l  median attention context contribution of layer l's tokens, averaged over samples
    P_l  polynomial fitted to E_1 … E_L     α_l  keep share of layer l, min(1, P_l / P_{l-1})
    s    scale of all shares at inference   a_l  what is kept in the end, min(1, α_l·s)

The paper writes α_EP for α and α_SC for s. It calls their product an elimination rate and 1 a lower
bound; it is a share that is kept, and 1 bounds it from above. Where the paper is silent: P_0 is the
fit at 0, and at least one token stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DEGREE = 2
LEAST_FIT = 1e-3
"""A fit that dips to 0 or below would give shares without meaning, or negative ones."""
FLOOR_SLACK = 1e-9
"""0.29 · 100 is a little under 29 in floating point; the floor must not lose that token."""


def keep_shares(medians: Sequence[float]) -> list[float]:
    """Gives the share α_l of its tokens that each layer keeps, in (0, 1].

    The fit is by least squares over l = 1 … L, of second degree or, below three layers, of the
    highest degree that they determine. It smooths the medians, which jump between layers.

    Args:
        medians: E_1 … E_L of the fine-tuned, unpruned model; contributions average 1 in a sample.

    Raises:
        ValueError: if there are none, or one is negative or not finite.
    """
    if len(medians) == 0:
        raise ValueError("there must be a median for each layer, but got none")
    values = np.asarray(medians, dtype=np.float64)
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(
            "medians must be finite and not negative, as sums of attention probabilities are; "
            f"but got {list(medians)}"
        )
    fit = np.maximum(_fit_from_zero(values), LEAST_FIT)
    return [float(share) for share in np.minimum(fit[1:] / fit[:-1], 1.0)]


def _fit_from_zero(values: Floats) -> Floats:
    """Gives P_0 … P_L."""
    n_layers = len(values)
    coefficients = np.polyfit(np.arange(1, n_layers + 1), values, min(DEGREE, n_layers - 1))
    return np.asarray(np.polyval(coefficients, np.arange(n_layers + 1)), dtype=np.float64)


def kept_counts(shares: Sequence[float], length: int, scale: float = 1.0) -> list[int]:
    """Gives T_1 … T_L of one sample of ``length`` tokens.

    Like ``kept_counts_of``, for a single length.
    """
    return [int(count) for count in kept_counts_of(shares, [length], scale)[:, 0]]


def kept_counts_of(
    shares: Sequence[float], lengths: Sequence[int] | Counts, scale: float = 1.0
) -> Counts:
    """Gives the tokens that each layer keeps of samples of many lengths, [L, lengths].

    T_l = max(1, ⌊a_l·T_{l-1}⌋). Counts never rise from layer to layer, nor fall when the scale
    rises.

    Args:
        shares: α_1 … α_L.
        lengths: T_0 of each sample, in tokens.
        scale: s; 1 is what the model is trained at, the paper tunes 0.85 to 1.2.

    Raises:
        ValueError: if a length is below 1, there are no shares, a share is not finite and positive,
            or the scale is negative or not finite.
    """
    shares_left = ratios(shares, scale)
    before = np.asarray(lengths, dtype=np.int64)
    if np.any(before < 1):
        raise ValueError(f"a sample must have at least one token, but got {before.min()}")
    kept = []
    for ratio in shares_left:
        before = np.maximum(np.floor(ratio * before + FLOOR_SLACK), 1).astype(np.int64)
        kept.append(before)
    return np.stack(kept)


def ratios(shares: Sequence[float], scale: float) -> list[float]:
    """Gives a_1 … a_L."""
    if len(shares) == 0:
        raise ValueError("there must be a keep share for each layer, but got none")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise ValueError(f"keep shares must be finite and positive, but got {list(shares)}")
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"the scale must be finite and not negative, but got {scale}")
    return [min(1.0, share * scale) for share in shares]
