"""What the paper would expect of a profile, to stand beside what was measured.

Legend as in ``_profile``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab_strategies.acc._profile import ratios


def speedup(shares: Sequence[float], scale: float = 1.0) -> float:
    """Gives how many times fewer MACs the linear layers need: equation 7 of the paper.

    K = 4L / (1 + 4·Σ_{l<L} Π_{j≤l} a_j + 3·Π_{j≤L} a_j), which leaves out that counts are whole and
    that the product of queries and keys shrinks with the square. For shares of 0.8 in 12 layers
    this is 3.0319; the paper prints 3.09.

    Raises:
        ValueError: as ``kept_counts_of`` for shares and scale.
    """
    left = np.cumprod(ratios(shares, scale))
    return float(4 * len(left) / (1 + 4 * left[:-1].sum() + 3 * left[-1]))
