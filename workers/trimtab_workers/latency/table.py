"""A table of what the parts of a model take, from which the time of any model of its kind follows.

Legend:
    heads    attention heads left in a layer        rows     tokens of all texts of a request
    filters  feed-forward filters left in a layer   longest  tokens of the longest text of a group
    group    texts whose attention is computed together, padded to the longest

Times are in milliseconds. Between what was measured, they are taken to run in straight lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Times ``ms`` at ascending sizes ``at``; a straight line goes on behind the last."""

    at: tuple[float, ...]
    ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.at or len(self.at) != len(self.ms) or min(np.diff(self.at), default=1) <= 0:
            raise ValueError(
                f"a curve needs a time for each of some ascending sizes, but got {self.at} "
                f"and {self.ms}"
            )

    @classmethod
    def through(cls, samples: Sequence[tuple[float, float]]) -> Curve:
        """Joins (size, ms) in any order; of several at one size the mean counts.

        More takes no less time, so that where it seems to, the mean of both is nearer to the truth.
        """
        by_size: dict[float, list[float]] = {}
        for size, ms in samples:
            by_size.setdefault(float(size), []).append(float(ms))
        sizes = sorted(by_size)
        blocks: list[list[float]] = []  # neighbours of one time
        for size in sizes:
            blocks.append([sum(by_size[size]) / len(by_size[size])])
            while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
                last = blocks.pop()
                blocks[-1] += last
        joined = [_mean(block) for block in blocks for _ in block]
        return cls(tuple(sizes), tuple(joined))

    def of(self, sizes: ArrayLike) -> Floats:
        """Gives the times of sizes, of any shape."""
        wanted = np.asarray(sizes, dtype=np.float64)
        times: Floats = np.interp(wanted, self.at, self.ms)
        if len(self.at) > 1:
            slope = (self.ms[-1] - self.ms[-2]) / (self.at[-1] - self.at[-2])
            times = times + slope * np.maximum(wanted - self.at[-1], 0.0)
        return times


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True)
class Surface:
    """A curve for each of some ascending ``widths``: numbers of heads, filters, or the like."""

    widths: tuple[float, ...]
    curves: tuple[Curve, ...]

    @classmethod
    def through(cls, samples: Mapping[float, Sequence[tuple[float, float]]]) -> Surface:
        """Joins (size, ms) of each width."""
        widths = tuple(sorted(samples))
        return cls(widths, tuple(Curve.through(samples[width]) for width in widths))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Surface:
        """Reads what ``asdict`` gave, from JSON or not."""
        curves = (Curve(tuple(each["at"]), tuple(each["ms"])) for each in plain["curves"])
        return cls(tuple(plain["widths"]), tuple(curves))

    def of(self, width: float, sizes: ArrayLike) -> Floats:
        """Gives the times of sizes, of any shape, at a width; at most the widest one's.

        A part that is there at all has its own fixed cost. So between a width of 0 and the least
        that was measured, the line through the next two goes on, within what both ends take.
        """
        above = int(np.searchsorted(self.widths, width))
        if above == 0 or above == len(self.widths):
            return self.curves[min(above, len(self.widths) - 1)].of(sizes)
        low, high = self.widths[above - 1], self.widths[above]
        share = (width - low) / (high - low)
        below, beyond = self.curves[above - 1].of(sizes), self.curves[above].of(sizes)
        if low == 0 and above + 1 < len(self.widths):
            further, step = self.curves[above + 1].of(sizes), self.widths[above + 1] - high
            less: Floats = beyond - (further - beyond) * (high - width) / step
            return np.clip(less, np.minimum(below, beyond), beyond)
        return (1 - share) * below + share * beyond


@dataclass(frozen=True)
class LatencyTable:
    """What the parts of a request take on one device; measured once, good for every model.

    ``parts`` by name, with the width of the surface and the size along its curves:

    - ``front``: packing and embedding; no width; rows.
    - ``asked/none``, ``asked/last``: queries, keys and values, of all rows or as the last layer
      asks (for the first token of each text); heads; rows.
    - ``few/R`` and ``many/R``, with R of ``none``, ``last``, ``ltp`` and ``acc``: attention between
      the projections, with all that a token rule adds, of one group; heads; longest. ``few`` are
      two texts, or one where requests are of one; ``many`` are ``batch_size``, of requests of more.
    - ``attended``: attention's output projection, residual and norm; heads; rows.
    - ``fed``: the feed-forward part; filters; rows.
    - ``head``: the classifier; no width; texts.
    - ``exit/KIND/READ``: one exit, from reading to deciding; its width; rows of the request.
    - ``leave``: taking texts out; no width; rows.

    ``group_macs`` decides which texts are attended to together, ``rounds`` tells whether numbers
    of rows are rounded up, and ``step`` to which multiples texts are padded where no rule weighs
    their tokens: all as the packed forward has it on this device.
    ``calibration`` is what the dense model took, divided by what it takes by the parts.
    """

    device: str
    dtype: str
    threads: int
    batch_size: int
    hidden_size: int
    head_dim: int
    group_macs: float
    rounds: bool
    parts: Mapping[str, Surface]
    calibration: float = 1.0
    step: int = 1

    def to_plain(self) -> dict[str, Any]:
        """Gives the table as JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> LatencyTable:
        """Reads what :meth:`to_plain` gave."""
        parts = {name: Surface.from_plain(part) for name, part in plain["parts"].items()}
        return cls(**{**plain, "parts": parts})

    @property
    def few(self) -> int:
        """How many texts the groups have that are called ``few``."""
        return min(2, self.batch_size)

    def padded(self, tokens: NDArray[Any]) -> NDArray[np.int64]:
        """Gives how many tokens fused attention sees of texts that have so many, with padding.

        A text that the others of its request have left is taken to be padded too.
        """
        counts = np.asarray(tokens, dtype=np.int64)
        wide = -(-counts // self.step) * self.step
        if self.batch_size > 1:
            return wide
        return np.where(wide <= self.rounded(counts), wide, counts)  # alone, it pads what is there

    def rounded(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Gives how many rows are computed for so many; see ``elastic/linear_trimtab.py``."""
        counts = np.asarray(rows, dtype=np.int64)
        if not self.rounds:
            return counts
        bits = np.frexp(np.maximum(counts - 1, 0))[1].astype(np.int64)  # (n - 1).bit_length()
        step = np.maximum(8, np.left_shift(1, np.maximum(bits - 4, 0)))
        return -(-counts // step) * step


def is_fused(core: str) -> bool:
    """Tells whether attention of that name gives no probabilities, and so pads texts further."""
    return core in ("none", "last")
