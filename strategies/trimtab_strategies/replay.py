"""Every threshold, patience and subset of exits, replayed from one recorded pass.

Legend:
    N  samples                              C  classes
    L  layers                               Q  quantities that are summed over samples
    E  exits; E' those of them in use       K  settings of a curve
    u  uncertainty at an exit, in [0, 1]    tau  a sample leaves at the first exit with u <= tau

Exits never change hidden states and samples do not interact, so what a sample does at any
setting follows from what all exits said about it once. Its leaving place is the index of an exit
in use, or E' for the final classifier. With token pruning this holds at the pruning thresholds of
the recording, provided that what a sample keeps does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import EncoderShape, Placement, layer_macs
from trimtab_strategies.records import Floats, Ints, Records

NOBODY = -1.0  # a tau below every uncertainty
LENGTH_BUCKETS: tuple[tuple[int, int | None], ...] = ((1, 35), (36, 70), (71, None))


@dataclass(frozen=True, eq=False)
class Curve:
    """All outcomes of a sweep: ``settings`` [K], ascending, and ``sums`` [K, Q] over samples.

    A tau between two settings has the outcome of the lower one, and is safer against rounding.
    """

    settings: Floats
    sums: NDArray[Any]


def uncertainty(logits: Floats) -> Floats:
    """Gives the normalised entropy over the last axis, −Σ p·log p / log C, in [0, 1].

    Raises:
        ValueError: if there are fewer than two classes, which leave nothing to be unsure of.
    """
    n_classes = logits.shape[-1]
    if n_classes < 2:
        raise ValueError(f"an uncertainty needs at least 2 classes, but got {n_classes}")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    entropy = -(np.exp(log_p) * log_p).sum(axis=-1)
    return np.asarray(np.clip(entropy / np.log(n_classes), 0.0, 1.0))


def predictions_of(records: Records, exits: Sequence[int] | None = None) -> Ints:
    """Gives the classes [N, E'+1] predicted at each exit in use and by the final classifier.

    Raises:
        ValueError: if ``exits`` are not ascending indexes into ``exit_layers``.
    """
    logits = records.exit_logits[:, _used(records, exits)]
    classes: Ints = np.concatenate([logits, records.logits[:, None]], axis=1).argmax(axis=-1)
    return classes


def leaving_macs(
    shape: EncoderShape,
    records: Records,
    placement: Placement,
    exit_macs: Callable[[Ints], Ints],
    exits: Sequence[int] | None = None,
) -> Ints:
    """Gives the MACs [N, E'+1] of each sample for leaving at each exit in use, or at the end.

    They are those of the layers run and of every exit in use on the way, the one left at included.

    Args:
        shape: Widths of the encoder.
        records: Its recorded pass.
        placement: Layers drop tokens after the output projection (``ltp``) or before it (``acc``).
        exit_macs: Gives the MACs, as integers, of one exit on each of these numbers of tokens.
        exits: Indexes into ``exit_layers`` of the exits in use; None for all.

    Raises:
        ValueError: if the shape has other layers, or there is no such placement or exit.
        TypeError: if ``exit_macs`` does not give integers.
    """
    layers = [records.exit_layers[used] for used in _used(records, exits)]
    encoder = np.cumsum(_macs_of_layers(shape, records, placement), axis=1)
    evaluated = np.zeros((len(records.lengths), len(layers) + 1), dtype=np.int64)
    for place, layer in enumerate(layers):
        np.copyto(evaluated[:, place], exit_macs(records.kept[:, layer]))
    return encoder[:, [*layers, shape.n_layers - 1]] + np.cumsum(evaluated, axis=1)


def quantities_of(records: Records, macs: Ints, exits: Sequence[int] | None = None) -> Ints:
    """Gives quantities [N, E'+1, 1 + 2C] whose sums tell the cost and the metric.

    The first is ``macs`` [N, E'+1]; then come C that mark the class of a right prediction, and C
    that mark the class predicted. Accuracy, F1 and Matthews follow from their sums and the labels.

    Raises:
        ValueError: if ``macs`` has another shape, or ``exits`` are none that there are.
    """
    predictions, n_classes = predictions_of(records, exits), records.logits.shape[1]
    if macs.shape != predictions.shape:
        raise ValueError(f"macs must have shape {predictions.shape}, but got {macs.shape}")
    marks = predictions[..., None] == np.arange(n_classes)
    right = marks & (predictions == records.labels[:, None])[..., None]
    return np.concatenate([macs[..., None], right, marks], axis=-1)


def leaves_by_entropy(uncertainties: Floats, tau: float) -> Ints:
    """Gives the leaving place [N] of each sample, from uncertainties [N, E'] at exits in use."""
    return _first(uncertainties <= tau)


def leaves_by_patience(predictions: Ints, patience: int, *, resets: bool = True) -> Ints:
    """Gives the leaving place [N] of each sample, from :func:`predictions_of` [N, E'+1].

    An exit that predicts what the one before it did adds 1 to the sample's counter; any other
    sets it back to 0 (PABEE), or leaves it as it is if not ``resets`` (as the count-based paper
    prints its Algorithm 2). A sample leaves once the counter reaches ``patience``; the first exit
    cannot count, and all others leave at the final classifier, the last column.

    Raises:
        ValueError: if patience is below 1 or predictions have no column.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, but got {patience}")
    return _first(_counters(predictions, resets) >= patience)


def sweep_entropy(uncertainties: Floats, quantities: NDArray[Any]) -> Curve:
    """Sums quantities [N, E'+1, Q] over samples at every tau that changes anything.

    The first setting is :data:`NOBODY`, at which all samples reach the final classifier. Sums of
    integers are exact; those of other numbers round as any running sum. O(N·E'·log(N·E')).

    Raises:
        ValueError: if shapes do not fit, or an uncertainty [N, E'] is negative or not finite.
    """
    if not np.all((uncertainties >= 0) & np.isfinite(uncertainties)):
        raise ValueError("uncertainties must be finite and not negative")
    return _sweep(uncertainties, quantities, NOBODY)


def sweep_patience(predictions: Ints, quantities: NDArray[Any], *, resets: bool = True) -> Curve:
    """Sums quantities [N, E'+1, Q] over samples at every patience, as :func:`sweep_entropy` does.

    Settings are 1, 2 … up to the least at which all samples reach the final classifier.

    Raises:
        ValueError: if shapes do not fit.
    """
    counters = _counters(predictions, resets)
    # To leave at the first counter >= t is to leave at the first -counter <= -t.
    scores = np.where(counters > 0, -counters, np.inf)
    curve = _sweep(scores, quantities, -1.0 - counters.max(initial=0))
    return Curve(-curve.settings[::-1], curve.sums[::-1])


def rows_by_length(lengths: Ints) -> list[NDArray[np.bool_]]:
    """Marks the samples [N] in each of :data:`LENGTH_BUCKETS`, ends included."""
    ends = [(low, np.inf if high is None else high) for low, high in LENGTH_BUCKETS]
    return [(lengths >= low) & (lengths <= high) for low, high in ends]


def _used(records: Records, exits: Sequence[int] | None) -> list[int]:
    known = range(len(records.exit_layers))
    used = list(known if exits is None else exits)
    if used != [exit_ for exit_ in known if exit_ in used]:
        raise ValueError(f"exits must ascend within the {len(known)} there are, but got {used}")
    return used


def _macs_of_layers(shape: EncoderShape, records: Records, placement: Placement) -> Ints:
    if placement not in get_args(Placement):
        raise ValueError(f"placement must be ltp or acc, but got {placement!r}")
    macs = np.empty_like(records.kept)
    if shape.n_layers != macs.shape[1]:
        raise ValueError(f"shape must have {macs.shape[1]} layers, but got {shape.n_layers}")
    entering: Any = records.lengths  # Any: the cost model's arithmetic holds for arrays as well
    for layer, (heads, filters) in enumerate(zip(shape.heads, shape.filters, strict=True)):
        left: Any = records.kept[:, layer]
        projected = entering if placement == "ltp" else left
        width = heads * shape.head_dim
        macs[:, layer] = layer_macs(shape.hidden_size, width, filters, entering, projected, left)
        entering = left
    return macs


def _first(leaves: NDArray[np.bool_]) -> Ints:
    """Gives the first true column [N], or the number of columns where none is."""
    end = np.ones((len(leaves), 1), dtype=np.bool_)
    places: Ints = np.concatenate([leaves, end], axis=1).argmax(axis=1)
    return places


def _counters(predictions: Ints, resets: bool) -> Ints:
    """Counts agreements [N, E'] up to each exit in use."""
    if predictions.ndim != 2 or predictions.shape[1] == 0:
        raise ValueError(f"predictions must be [N, E'+1], but got shape {predictions.shape}")
    counters = np.zeros((len(predictions), predictions.shape[1] - 1), dtype=np.int64)
    for place in range(1, counters.shape[1]):
        before = counters[:, place - 1]
        agrees = predictions[:, place] == predictions[:, place - 1]
        counters[:, place] = np.where(agrees, before + 1, 0 if resets else before)
    return counters


def _sweep(scores: Floats, quantities: NDArray[Any], nobody: float) -> Curve:
    """Sweeps a setting upwards; samples leave at the first score <= it, infinite ones never."""
    n, n_exits = scores.shape
    if quantities.ndim != 3 or quantities.shape[:2] != (n, n_exits + 1):
        raise ValueError(
            f"quantities must be [{n}, {n_exits + 1}, Q] for scores of shape {scores.shape}, "
            f"but got shape {quantities.shape}"
        )
    if quantities.dtype.kind != "f":  # small integers would overflow
        quantities = quantities.astype(np.int64, copy=False)
    rows, places, later = _moves(scores)
    change = quantities[rows, places] - quantities[rows, later]
    order = np.argsort(scores[rows, places])
    settings = np.append(nobody, scores[rows, places][order])
    at_the_end = quantities[:, -1].sum(axis=0, keepdims=True)
    sums = np.cumsum(np.concatenate([at_the_end, change[order]]), axis=0)
    complete = np.append(settings[1:] != settings[:-1], True)  # the last move at each setting
    return Curve(settings[complete], sums[complete])


def _moves(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Lists who moves, to which place, and from which later one, as the setting rises.

    A sample ever leaves only where its score is below all before, and comes there from the next
    such place; ``np.nonzero`` lists those of one sample side by side and in ascending order.
    """
    lowest_before = np.full(scores.shape, np.inf)
    lowest_before[:, 1:] = np.minimum.accumulate(scores, axis=1)[:, :-1]
    rows, places = np.nonzero(scores < lowest_before)
    has_later = np.append(rows, -1)[1:] == rows
    return rows, places, np.where(has_later, np.append(places, 0)[1:], scores.shape[1])
