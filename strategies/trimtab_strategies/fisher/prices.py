"""What heads and filters cost in time: a level for a layer's first few, and a slope for more.

Legend:
    part  a layer's attention, or its feed-forward part      k  units of a part that are kept
    unit  a head, or a block of ``block`` filters: devices compute some widths no faster than the
          next round one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab_strategies.cost import EncoderShape

Floats = NDArray[np.float64]

DIGITS = 4


@dataclass(frozen=True)
class Piecewise:
    """What one part takes with ``k`` units: the published latency model of pruning.

    Nothing without any, ``level`` c up to ``threshold`` t units, and c + a(k - t) beyond, with
    ``slope`` a; in the unit of what it was fitted to. Source: the post-training pruning paper,
    section 4.1, and its published code, whose slope of 0 was divided by.
    """

    level: float
    slope: float
    threshold: int

    def __post_init__(self) -> None:
        if not (self.threshold >= 1 and self.level >= 0 and self.slope >= 0):
            raise ValueError(
                "a fit needs a threshold of at least 1 and a level and slope of at least 0, but "
                f"got {self}"
            )

    @classmethod
    def fit(cls, measured: Sequence[float]) -> Piecewise:
        """Fits ``measured`` [K], the times with 1 to K units: of all thresholds the nearest one.

        For each, the level is the mean up to it, and the slope that of the least squares' line
        through its end over the rest; a falling one counts as flat. Ties go to the lower.

        Raises:
            ValueError: if there is nothing measured.
        """
        times = np.asarray(measured, dtype=np.float64)
        if not len(times):
            raise ValueError("a fit needs at least one time, but got none")
        fits = [cls._at(times, threshold) for threshold in range(1, len(times) + 1)]
        kept = np.arange(1, len(times) + 1)
        errors = [float(np.square(fit.of(kept) - times).sum()) for fit in fits]
        return fits[int(np.argmin(errors))]

    @classmethod
    def _at(cls, times: Floats, threshold: int) -> Piecewise:
        level = float(times[:threshold].mean())
        beyond = np.arange(1, len(times) - threshold + 1)
        rises = times[threshold:] - level
        slope = float(beyond @ rises / (beyond @ beyond)) if len(beyond) else 0.0
        return cls(max(level, 0.0), max(slope, 0.0), threshold)

    def of(self, kept: ArrayLike) -> Floats:
        """Gives the times of numbers of units, of any shape; parts of a unit cost their part."""
        units = np.asarray(kept, dtype=np.float64)
        rising = self.level + self.slope * np.maximum(units - self.threshold, 0)
        return np.where(units > 0, rising, 0.0)

    def times(self, factor: float) -> Piecewise:
        """Gives the same in another unit of time."""
        level, slope = (_rounded(factor * one) for one in (self.level, self.slope))
        return Piecewise(level, slope, self.threshold)


@dataclass(frozen=True)
class Prices:
    """What the parts of all layers but the last take, and those of the last one.

    The last layer is computed for each text's first token alone where nothing reads the others, so
    that its units are nearly free. ``block`` is the number of filters that are one unit.
    """

    heads: Piecewise
    blocks: Piecewise
    last_heads: Piecewise
    last_blocks: Piecewise
    block: int

    @property
    def fits(self) -> tuple[Piecewise, ...]:
        """All four, as they are written."""
        return self.heads, self.blocks, self.last_heads, self.last_blocks

    def relative_to(self, shape: EncoderShape) -> Prices:
        """Gives the same as shares of what the parts of a whole model take, with few digits."""
        whole = self.evenly(shape, 1.0)
        factor = 1 / whole if whole else 1.0
        heads, blocks, last_heads, last_blocks = (fit.times(factor) for fit in self.fits)
        return Prices(heads, blocks, last_heads, last_blocks, self.block)

    def evenly(self, shape: EncoderShape, share: float) -> float:
        """Gives what a model takes of which every part keeps the same share."""
        heads, blocks = self.of(shape, [share * n for n in shape.heads], self._blocks(shape, share))
        return float(sum(heads) + sum(blocks))

    def _blocks(self, shape: EncoderShape, share: float) -> list[float]:
        return [share * -(-n // self.block) for n in shape.filters]

    def of(
        self, shape: EncoderShape, heads: Sequence[float], blocks: Sequence[float]
    ) -> tuple[list[float], list[float]]:
        """Gives what each layer's parts take with so many heads and blocks of filters."""
        of_heads, of_blocks = self.by_layer(shape.n_layers)
        return (
            [float(fit.of(n)) for fit, n in zip(of_heads, heads, strict=True)],
            [float(fit.of(n)) for fit, n in zip(of_blocks, blocks, strict=True)],
        )

    def by_layer(self, n_layers: int) -> tuple[list[Piecewise], list[Piecewise]]:
        """Gives the fits of each layer: of its heads, and of its blocks."""
        others = n_layers - 1
        return (
            [*[self.heads] * others, self.last_heads],
            [*[self.blocks] * others, self.last_blocks],
        )

    def __str__(self) -> str:
        """Gives the prices as they stand in a recipe."""
        fits = ("/".join(f"{value:.{DIGITS}g}" for value in astuple(fit)) for fit in self.fits)
        return " ".join([*fits, str(self.block)])

    @classmethod
    def parse(cls, text: str) -> Prices:
        """Reads what ``str`` gave.

        Raises:
            ValueError: if it is anything else.
        """
        try:
            *fits, block = text.split()
            read = [tuple(map(float, fit.split("/"))) for fit in fits]
            of_parts = [Piecewise(level, slope, int(t)) for level, slope, t in read]
            heads, blocks, last_heads, last_blocks = of_parts
            return cls(heads, blocks, last_heads, last_blocks, int(block))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "prices must be four fits `level/slope/threshold` and the filters of a block, "
                f"but got {text!r}"
            ) from error


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
