"""What a model costs that keeps a share of its tokens, and the scale that meets a cost.

Legend as in ``_profile``. A layer drops tokens between its attention and the output projection
(equation 4 of [002] counts only queries, keys and values at T_{l-1}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trimtab_strategies.acc._profile import kept_counts_of
from trimtab_strategies.cost import EncoderShape, LengthHistogram, encoder_macs_at, token_counts

HALVINGS = 40
"""Of the range of scales: after these its ends differ by a millionth of a millionth of it."""


def acc_macs(shape: EncoderShape, shares: Sequence[float], length: int, scale: float = 1.0) -> int:
    """MACs of the encoder on one sample of ``length`` real tokens; exact.

    Like ``acc_total_macs``, for a single sample.
    """
    return acc_total_macs(shape, shares, LengthHistogram({length: 1}), scale)


def acc_total_macs(
    shape: EncoderShape, shares: Sequence[float], histogram: LengthHistogram, scale: float = 1.0
) -> int:
    """MACs of the encoder summed over every sample of a workload; exact.

    Args:
        shape: the encoder's widths.
        shares: keep share of each of its layers.
        histogram: lengths of the workload, in real tokens.
        scale: what all shares are multiplied by.

    Raises:
        ValueError: if shares and layers differ in number, or as ``kept_counts_of``.
    """
    if len(shares) != shape.n_layers:
        raise ValueError(
            f"each of the {shape.n_layers} layers must have a keep share, but got {len(shares)}"
        )
    # Python's integers from here on: summed over a large workload, 64 bits may not hold them.
    kept = kept_counts_of(shares, list(histogram.counts), scale).T.tolist()
    return sum(
        samples * encoder_macs_at(shape, token_counts(length, row, "acc"))
        for (length, samples), row in zip(histogram.counts.items(), kept, strict=True)
    )


def scale_for(
    shares: Sequence[float],
    cost_of: Callable[[float], float],
    wanted: float,
    low: float = 0.0,
    high: float | None = None,
) -> float:
    """Finds the largest scale whose cost is at most ``wanted``, by bisection.

    Args:
        shares: keep share of each layer, positive.
        cost_of: the cost at a scale, in any unit; must not fall when the scale rises.
        wanted: the cost to stay within, in that unit.
        low: the smallest scale to consider.
        high: the largest; by default the one from which on every layer keeps every token.

    Returns:
        A scale that is never over the cost, and short of the largest by at most
        (high - low) / 2^40.

    Raises:
        ValueError: if the range is empty or even ``low`` costs more than ``wanted``.
    """
    if high is None:
        high = max(low, 1 / min(shares))
    if not 0 <= low <= high:
        raise ValueError(f"scales must be a range from 0 up, but got {low} to {high}")
    if not (cheapest := cost_of(low)) <= wanted:
        raise ValueError(f"the wanted cost must be at least {cheapest:g}, but got {wanted:g}")
    if cost_of(high) <= wanted:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost_of(middle) <= wanted else (low, middle)
    return low
