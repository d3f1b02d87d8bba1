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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate

import torch

from .layers_trimtab import added_to_scores

GROUP_MACS = {"cpu": 4e6, "cuda": 2e9}
"""What starting another group costs, in multiply-accumulates that the device does meanwhile."""
PAYS_FROM = 0.02
"""Share of the rows that must have gone before the others are moved together."""
FUSED_STEP = {"AVX512": 16, "AVX2": 8}
"""Of how many tokens the CPU's fused attention takes multiples fastest: the rest goes one by one.

With a multiple of 16 instead of three tokens less it takes half the time.
"""


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbouring samples whose attention is computed together, padded to the same length.

    ``rows`` is the slice of theirs in the batch, and ``real`` [b, n] says which places are no
    padding; None where none are. ``places`` [b * n] says which of the batch's rows stands at each
    place, which at padding is the sample's own first; None where rows stand there one after the
    other: those of samples of one length, or of the only sample that there is, padded with the
    rows behind its last.
    """

    samples: slice
    rows: slice
    length: int
    places: torch.Tensor | None
    real: torch.Tensor | None

    def pad(self, rows: torch.Tensor) -> torch.Tensor:
        """Lays out this group's part of rows [R', w] as [b, n, w]."""
        shape = self.samples.stop - self.samples.start, self.length, *rows.shape[1:]
        if self.places is not None:
            return rows.index_select(0, self.places).view(shape)
        start = self.rows.start
        return rows[start : start + shape[0] * self.length].reshape(shape)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Gives the rows of [b, n, ...] that are no padding, [r, ...]."""
        rows = padded.flatten(0, 1)
        if self.real is None:
            return rows
        if self.places is None:
            return rows[: self.rows.stop - self.rows.start]
        return rows.index_select(0, self._real_places)

    @cached_property
    def _real_places(self) -> torch.Tensor:
        assert self.real is not None
        return self.real.flatten().nonzero().flatten()


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
        self._bounds, self.n_rows = starts, starts[-1]
        self.starts = torch.tensor(starts[:-1], device=device)
        self.counts = torch.tensor(self.lengths, device=device)
        self._owners: torch.Tensor | None = None
        self._groups: dict[int, list[Group]] = {}
        self._masks: dict[Group, torch.Tensor | None] = {}

    def groups(self, step: int = 1) -> list[Group]:
        """Gives the groups of all samples, padded to multiples of ``step``.

        The only sample that there is stays as it is where too few rows come behind it: laying it
        out anew would cost what the padding saves.
        """
        if step not in self._groups:
            lengths = [rounded_up(length, step) for length in self.lengths]
            device = self.rows.device.type
            self._groups[step] = [
                self._group(first, last, lengths[first])
                for first, last in grouped(lengths, self._width, device)
            ]
        return self._groups[step]

    def fused_groups(self) -> list[Group]:
        """Gives the groups as fused attention is fastest with them."""
        return self.groups(fused_step(self.rows.device.type))

    def _group(self, first: int, last: int, length: int) -> Group:
        longest, shortest = self.lengths[first], self.lengths[last - 1]
        start, end = self._bounds[first], self._bounds[last]
        samples, rows = slice(first, last), slice(start, end)
        is_alone = len(self.lengths) == 1
        if is_alone and length > len(self.rows):
            length = longest
        if length == shortest:
            return Group(samples, rows, length, None, None)
        place = torch.arange(length, device=self.rows.device)
        real = place < self.counts[samples, None]
        if is_alone:
            return Group(samples, rows, length, None, real)
        places = self.starts[samples, None] + place * real
        return Group(samples, rows, length, places.flatten(), real)

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
        groups = self.groups()
        if len(groups) == 1 and groups[0].real is None and self.live is None:
            return groups[0].pad(self.rows).mean(dim=1)
        # Group by group, which adds up in the same order every time on every device.
        summed = torch.cat([self._sum_of(group) for group in groups])
        return (summed / self.live_counts()[:, None]).to(self.rows)

    def _sum_of(self, group: Group) -> torch.Tensor:
        live, padded = self.live_in(group), group.pad(self.rows).float()
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
        behind = self.live.new_zeros(len(self.rows) - self.n_rows)
        live = group.pad(torch.cat([self.live, behind]))
        return live if group.real is None else live & group.real

    def mask_in(self, group: Group) -> torch.Tensor | None:
        """Gives what is added to a group's attention scores, [b, 1, 1, n]; None where all live.

        It is made once for all layers, until a token or a sample goes.
        """
        if group not in self._masks:
            live = self.live_in(group)
            seen = None if live is None else live[:, None, None, :]
            self._masks[group] = None if seen is None else added_to_scores(seen, self.rows.dtype)
        return self._masks[group]

    # Letting go

    def let_go(self, kept: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keeps the rows of ``kept`` [R] alone, moving them together if enough have gone.

        ``others`` are further tensors of a value for each row; they come back in the new order.
        """
        n_kept = int(kept.sum())
        if n_kept > (1 - PAYS_FROM) * self.n_rows:
            self.live, self._masks = None if n_kept == self.n_rows else kept, {}
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

    def joined(self, groups: Sequence[Group], padded: Sequence[torch.Tensor]) -> torch.Tensor:
        """Puts the rows of all groups, each [b, n, w], together as ``rows`` are: [R', w].

        What comes behind the last token is anything, and nobody reads it.
        """
        if len(groups) == 1 and groups[0].places is None:
            rows = padded[0].flatten(0, 1)
            if len(rows) == len(self.rows):
                return rows
        parts = [group.pack(part) for group, part in zip(groups, padded, strict=True)]
        fill = len(self.rows) - self.n_rows
        if fill:
            parts += [parts[0].new_zeros(fill, *parts[0].shape[1:])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _move(self, rows: torch.Tensor, samples: torch.Tensor, lengths: list[int]) -> None:
        self.rows, self.samples, self.lengths = self.rows[rows], self.samples[samples], lengths
        self._lay_out()


def filled(values: torch.Tensor, fill: int) -> torch.Tensor:
    """Repeats the first of ``values`` [R] at their end, for rows that nobody reads."""
    return torch.cat([values, values[:1].expand(fill)]) if fill and len(values) else values


@cache
def fused_step(device: str) -> int:
    """Tells of how many tokens a kind of device's fused attention takes multiples fastest."""
    if device != "cpu":
        return 1
    return FUSED_STEP.get(torch.backends.cpu.get_cpu_capability(), 1)


def rounded_up(count: int, step: int) -> int:
    """Rounds up to a multiple of ``step``."""
    return -(-count // step) * step


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
