"""Packed tokens: the rows of all samples one after the other, and how attention groups them.

Legend of shapes:
    b  samples that are still there    R  rows: all their tokens, one sample after the other
    d  hidden size                     n  the longest sample of a group

Samples are kept from the longest to the shortest, so that those of a group are neighbours and of
near-equal length. Every linear layer runs on [R, d] and wastes nothing; only attention pads,
within a group. A row that was let go may stay for a while where removing it would not pay; then
``live`` is False there. Where numbers of rows are rounded up, others follow that nobody reads: R'
rows in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch

GROUP_MACS = {"cpu": 4e6, "cuda": 2e9}
"""What starting another group costs, in multiply-accumulates that the device does meanwhile."""
PAYS_FROM = 0.02
"""Share of the rows that must have gone before the others are moved together."""


@dataclass(frozen=True)
class Group:
    """Neighbouring samples whose attention is computed together, padded to the longest.

    ``rows`` is the slice of theirs in the batch; ``places`` [b, n] says which of these rows stands
    at each place, and ``real`` [b, n] which places are no padding; both None where all samples are
    of one length.
    """

    samples: slice
    rows: slice
    length: int
    places: torch.Tensor | None
    real: torch.Tensor | None

    def pad(self, rows: torch.Tensor) -> torch.Tensor:
        """Lays out this group's rows [r, w] as [b, n, w]."""
        if self.places is None:
            return rows.reshape(len(rows) // self.length, self.length, *rows.shape[1:])
        return rows[self.places]

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Gives the rows of [b, n, ...] that are no padding, [r, ...]."""
        return padded.flatten(0, 1) if self.real is None else padded[self.real]


class PackedTokens:
    """The hidden states of a batch as rows, with everything that says whose they are."""

    def __init__(
        self,
        rows: torch.Tensor,
        lengths: list[int],
        samples: torch.Tensor,
        width: int,
        round_up: Callable[[int], int] = int,
    ) -> None:
        """Takes ``rows`` [R', d] of samples with ``lengths``, longest first.

        ``samples`` [b] says which of the caller's samples each is; ``width`` is the attention
        width, by which groups are made; ``round_up`` gives R' for R.
        """
        self.rows, self.lengths, self.samples, self._width = rows, lengths, samples, width
        self._round_up = round_up
        self.live: torch.Tensor | None = None
        self._lay_out()

    def _lay_out(self) -> None:
        device = self.rows.device
        starts = [0, *accumulate(self.lengths)]
        self.n_rows = starts.pop()
        self.starts = torch.tensor(starts, device=device)
        self.counts = torch.tensor(self.lengths, device=device)
        self._owners: torch.Tensor | None = None
        self.groups = [
            self._group(first, last, starts)
            for first, last in grouped(self.lengths, self._width, device.type)
        ]

    def _group(self, first: int, last: int, starts: list[int]) -> Group:
        longest, shortest = self.lengths[first], self.lengths[last - 1]
        end = starts[last] if last < len(starts) else self.n_rows
        samples, rows = slice(first, last), slice(starts[first], end)
        if longest == shortest:
            return Group(samples, rows, longest, None, None)
        place = torch.arange(longest, device=self.rows.device)
        real = place < self.counts[samples, None]
        places = (self.starts[samples, None] - starts[first] + place) * real
        return Group(samples, rows, longest, places, real)

    @property
    def owners(self) -> torch.Tensor:
        """For each row, the place of its sample among those that are there, [R]."""
        if self._owners is None:
            places = torch.arange(len(self.lengths), device=self.rows.device)
            self._owners = torch.repeat_interleave(places, self.counts, output_size=self.n_rows)
        return self._owners

    # What exits read

    def first(self) -> torch.Tensor:
        """Gives each sample's first token, [b, d]."""
        return self.rows[self.starts]

    def mean(self) -> torch.Tensor:
        """Gives the mean of each sample's live tokens, [b, d]."""
        if len(self.groups) == 1 and self.groups[0].real is None and self.live is None:
            return self.groups[0].pad(self.rows[: self.n_rows]).mean(dim=1)
        # Group by group, which adds up in the same order every time on every device.
        summed = torch.cat([self._sum_of(group) for group in self.groups])
        return (summed / self.live_counts()[:, None]).to(self.rows)

    def _sum_of(self, group: Group) -> torch.Tensor:
        live, padded = self.live_in(group), group.pad(self.rows[group.rows]).float()
        return padded.sum(dim=1) if live is None else (padded * live[:, :, None]).sum(dim=1)

    def padded(
        self, project: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Applies ``project`` to every row and gives [b, n, w] and the live ones, [b, n].

        None in their place says that all are.
        """
        projected = project(self.rows)
        if self.lengths[0] == self.lengths[-1]:  # as of a single sample
            shape = len(self.lengths), self.lengths[0]
            live = None if self.live is None else self.live.reshape(shape)
            return projected[: self.n_rows].reshape(*shape, -1), live
        place = torch.arange(self.lengths[0], device=self.rows.device)
        real = place < self.counts[:, None]
        places = (self.starts[:, None] + place) * real
        return projected[places], real if self.live is None else real & self.live[places]

    def live_counts(self) -> torch.Tensor:
        """Gives how many live tokens each sample has, [b]."""
        if self.live is None:
            return self.counts
        return torch.zeros_like(self.counts).index_add(0, self.owners, self.live.to(self.counts))

    def live_in(self, group: Group) -> torch.Tensor | None:
        """Gives the live tokens of a group, [b, n] of bool; None where all are."""
        if self.live is None:
            return group.real
        live = group.pad(self.live[group.rows])
        return live if group.real is None else live & group.real

    # Letting go

    def let_go(self, kept: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keeps the rows of ``kept`` [R] alone, moving them together if enough have gone.

        ``others`` are further tensors of a value for each row; they come back in the new order.
        """
        n_kept = int(kept.sum())
        if n_kept > (1 - PAYS_FROM) * self.n_rows:
            self.live = None if n_kept == self.n_rows else kept
            return others
        rows = kept.nonzero().flatten()
        order, lengths = torch.zeros_like(self.counts), [n_kept]
        if len(self.lengths) > 1:  # the rows of a single short text need no sorting
            rows, order, lengths = self._sorted(kept, rows)
        rows, self.live = self._filled(rows), None
        self._move(rows, order, lengths)
        return tuple(other[rows] for other in others)

    def _sorted(
        self, kept: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Sorts ``rows``, which are those ``kept``, by samples, those with most of them first."""
        counts = torch.zeros_like(self.counts).index_add(0, self.owners, kept.to(self.counts))
        order = counts.argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        rows = rows[rank[self.owners[rows]].argsort(stable=True)]
        return rows, order, counts[order].tolist()

    def leave(self, leaving: torch.Tensor) -> None:
        """Takes out the samples that are ``leaving`` [b]."""
        stay = (~leaving).nonzero().flatten()
        if len(stay) == len(self.lengths):
            return
        rows = (~leaving)[self.owners].nonzero().flatten()
        if self.live is not None:
            self.live = self.live[rows]
        lengths = [self.lengths[place] for place in stay.tolist()]
        self._move(self._filled(rows), stay, lengths)

    def _filled(self, rows: torch.Tensor) -> torch.Tensor:
        return filled(rows, self._round_up(len(rows)) - len(rows))

    def joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Puts the rows [R, w] of all groups together, as long as ``rows`` are: [R', w]."""
        fill = len(self.rows) - self.n_rows
        if fill:
            parts = [*parts, parts[0].new_zeros(fill, *parts[0].shape[1:])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _move(self, rows: torch.Tensor, samples: torch.Tensor, lengths: list[int]) -> None:
        self.rows, self.samples, self.lengths = self.rows[rows], self.samples[samples], lengths
        self._lay_out()


def filled(values: torch.Tensor, fill: int) -> torch.Tensor:
    """Repeats the first of ``values`` [R] at their end, for rows that nobody reads."""
    return torch.cat([values, values[:1].expand(fill)]) if fill and len(values) else values


def grouped(lengths: list[int], width: int, device: str) -> Iterator[tuple[int, int]]:
    """Yields neighbours (first, behind the last) to pad together, of ``lengths`` longest first.

    A group ends where going on would waste more multiply-accumulates than starting anew costs.
    """
    if not lengths:
        return
    bound = GROUP_MACS.get(device, GROUP_MACS["cpu"]) / (2 * max(width, 1))
    first, wasted = 0, 0
    for place, length in enumerate(lengths):
        wasted += lengths[first] ** 2 - length**2
        if wasted > bound:
            yield first, place
            first, wasted = place, 0
    yield first, len(lengths)
