"""What a model costs: multiply-accumulates of its matrix products, by pure arithmetic.

Legend:
    d    hidden size                        H_l  heads kept in layer l
    d_h  width of one head                  A_l  attention width, H_l * d_h
    n    tokens of one sample               F_l  feed-forward filters kept in layer l
    n_q  tokens entering a layer            n_o  tokens at the attention's output projection
    n_f  tokens at the feed-forward         w    width inside an exit head
    C    classes

One MAC is two FLOPs. Only matrix products count (no bias, LayerNorm, softmax, GELU), at a
sample's real length; embeddings, pooler and the final classifier are left out on both sides, and
exit heads are priced apart.
Everything is exact integer arithmetic until a mean is taken over samples, after the layers are
summed: taking the mean length first would be biased, because of the n² term.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


FLOPS_PER_MAC = 2

Placement = Literal["ltp", "acc"]
ExitKind = Literal["linear", "mlp", "attention"]
Reading = Literal["first", "mean", "both"]
Tokens = TypeVar("Tokens", int, "NDArray[np.int64]")


def layer_macs(
    hidden_size: int, attention_width: int, filters: int, n_q: int, n_o: int, n_f: int
) -> int:
    """MACs of one encoder layer: 3·n_q·d·A + 2·n_q²·A + n_o·A·d + 2·n_f·d·F.

    With all three counts equal this is the dense layer; ``n_o = n_q`` and ``n_f`` the tokens kept
    is learned token pruning; ``n_o = n_f`` the tokens kept is attention context contribution.
    """
    projections = 3 * n_q * hidden_size * attention_width
    scores_and_context = 2 * n_q * n_q * attention_width
    output = n_o * attention_width * hidden_size
    feed_forward = 2 * n_f * hidden_size * filters
    return projections + scores_and_context + output + feed_forward


def head_macs(hidden_size: int, head_dim: int, n: int) -> int:
    """MACs of one attention head on ``n`` tokens: 4·n·d·d_h + 2·n²·d_h."""
    return layer_macs(hidden_size, head_dim, 0, n, n, n)


def filter_macs(hidden_size: int, n: int) -> int:
    """MACs of one feed-forward filter on ``n`` tokens: 2·n·d."""
    return layer_macs(hidden_size, 0, 1, n, n, n)


@dataclass(frozen=True)
class EncoderShape:
    """The widths of an encoder, layer by layer; layers may have none left."""

    hidden_size: int
    head_dim: int
    heads: tuple[int, ...]
    filters: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.filters):
            raise ValueError(
                "heads and filters must name the same layers, "
                f"but got {len(self.heads)} and {len(self.filters)}"
            )
        if min((*self.heads, *self.filters), default=0) < 0:
            raise ValueError("counts of heads and filters must not be negative")

    @classmethod
    def dense(cls, hidden_size: int, n_layers: int, n_heads: int, n_filters: int) -> EncoderShape:
        """Gives the shape of an encoder that nothing was taken from."""
        head_dim = hidden_size // n_heads
        return cls(hidden_size, head_dim, (n_heads,) * n_layers, (n_filters,) * n_layers)

    @property
    def n_layers(self) -> int:
        """How many layers there are, empty ones included."""
        return len(self.heads)


def encoder_macs(shape: EncoderShape, length: int) -> int:
    """MACs of the whole encoder on one sample of ``length`` real tokens."""
    return encoder_macs_at(shape, [(length, length, length)] * shape.n_layers)


def encoder_macs_at(shape: EncoderShape, tokens: Sequence[tuple[int, int, int]]) -> int:
    """MACs of the encoder where layer ``l`` sees ``tokens[l] = (n_q, n_o, n_f)``."""
    return sum(
        layer_macs(shape.hidden_size, heads * shape.head_dim, filters, *counts)
        for heads, filters, counts in zip(shape.heads, shape.filters, tokens, strict=True)
    )


def token_counts(
    length: int, kept: Sequence[int], placement: Placement
) -> list[tuple[int, int, int]]:
    """Gives (n_q, n_o, n_f) of every layer, as ``encoder_macs_at`` takes them.

    Args:
        length: tokens entering the first layer.
        kept: tokens leaving each layer; those enter the next.
        placement: where in a layer tokens are dropped: before the feed-forward (``ltp``), or
            before the attention's output projection (``acc``).
    """
    entering = [length, *kept][:-1]
    if placement == "acc":
        return [(before, after, after) for before, after in zip(entering, kept, strict=True)]
    return [(before, before, after) for before, after in zip(entering, kept, strict=True)]


def exit_macs(
    kind: ExitKind,
    read: Reading,
    hidden_size: int,
    width: int,
    n_classes: int,
    n_tokens: Tokens,
) -> Tokens:
    """MACs of one exit head, evaluated once on a sample with ``n_tokens`` live tokens.

    A ``linear`` head is r·C and an ``mlp`` r·w + w² + w·C, where r is what it reads: d, or 2·d for
    ``both``, the first token and the mean side by side. An ``attention`` head is FastBERT's:
    n·(d·w + 4·w²) + 2·n²·w on all tokens, then w² + w·C on the first; it reads its own first token,
    so that ``read`` means nothing to it. The mean is no matrix product and costs nothing.

    Args:
        kind: the form of the head.
        read: which hidden states a ``linear`` or ``mlp`` head reads.
        hidden_size: d.
        width: w; a ``linear`` head has none and takes no notice.
        n_classes: C.
        n_tokens: n, one count or an array of counts; the answer has its form.
    """
    if kind == "attention":
        on_all = n_tokens * (hidden_size + 4 * width) * width + 2 * n_tokens * n_tokens * width
        return on_all + (width + n_classes) * width
    inputs = 2 * hidden_size if read == "both" else hidden_size
    if kind == "linear":
        return n_tokens * 0 + inputs * n_classes
    return n_tokens * 0 + (inputs + width + n_classes) * width


@dataclass(frozen=True)
class LengthHistogram:
    """How many samples of each token length a workload has."""

    counts: Mapping[int, int]

    @classmethod
    def from_lengths(cls, lengths: Iterable[int]) -> LengthHistogram:
        """Counts the lengths of a workload's samples.

        Raises:
            ValueError: if there are none.
        """
        counts = dict(sorted(Counter(int(length) for length in lengths).items()))
        if not counts:
            raise ValueError("a workload must have at least one sample, but got none")
        return cls(counts)

    @cached_property
    def n(self) -> int:
        """The number of samples."""
        return sum(self.counts.values())

    @cached_property
    def mean(self) -> float:
        """The mean length in tokens."""
        return sum(length * count for length, count in self.counts.items()) / self.n


def total_macs(shape: EncoderShape, histogram: LengthHistogram) -> int:
    """MACs of the encoder summed over every sample of a workload; exact."""
    return sum(encoder_macs(shape, length) * count for length, count in histogram.counts.items())


def mean_flops(shape: EncoderShape, histogram: LengthHistogram) -> float:
    """Mean FLOPs per sample of a workload: the figure that budgets are checked against."""
    return FLOPS_PER_MAC * total_macs(shape, histogram) / histogram.n
