"""Every knob setting of one model: a pass over the rows for each scale, arithmetic for the rest.

Legend:
    N  rows    E  exits    E' exits in use    C  classes    K  settings of a curve
    scale    the factor on thresholds or shares; what tokens are left depends on it, so that each
             needs a pass of its own
    static   what every row would cost if all its tokens stayed and nobody left early
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import LengthHistogram, mean_flops, total_macs
from trimtab_strategies.outcomes import Pricing, outcome_at
from trimtab_strategies.records import Records, records_file
from trimtab_strategies.replay import (
    NOBODY,
    Curve,
    predictions_of,
    quantities_of,
    sweep_entropy,
    sweep_patience,
    uncertainty,
)
from trimtab_workers.data import Encoded
from trimtab_workers.metrics import metric_of_counts

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabForSequenceClassification

SCALES = {
    "ltp": ("delta_scale", (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)),
    "acc": ("alpha_sc", (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)),
}
"""The knob of each kind of token rule, and its settings; of ACC the published range."""
GRID = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds of uncertainty that are always measured, beside those that nothing beats."""
MOST_IN_ALL_SUBSETS = 5
"""Up to so many exits, every subset is tried: 31 of five."""

Progress = Callable[[str, int, int], None]
Knobs = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One setting of a model's knobs: the metric (higher is better) and mean FLOPs a row."""

    knobs: Knobs
    metric: float
    flops: float


def has_knobs(model: TrimtabForSequenceClassification) -> bool:
    """Tells whether anything can be set on a model without changing its weights."""
    return model.token_rule is not None or len(model.exits) > 0


def record(
    model: TrimtabForSequenceClassification,
    encoded: Encoded,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Records:
    """Runs a model once over rows, at its knobs' scale, with nobody leaving."""
    from trimtab_workers.batching import collate, length_sorted_batches

    n, n_exits = len(encoded), len(model.exits)
    kept = np.empty((n, len(model.encoder_layers)), dtype=np.int64)
    exit_logits = np.empty((n, n_exits, model.num_labels))
    logits = np.empty((n, model.num_labels))
    done = 0
    for rows in length_sorted_batches(encoded, batch_size):
        inputs: dict[str, Any] = collate(encoded, rows, model.config.pad_token_id, model.device)
        del inputs["labels"]
        trace = model.trace(**inputs)
        kept[rows] = trace.kept.cpu().numpy()
        exit_logits[rows] = trace.exit_logits.cpu().double().numpy()
        logits[rows] = trace.logits.cpu().double().numpy()
        done += len(rows)
        if progress:
            progress("recording", done, n)
    layers = () if model.config.exits is None else tuple(model.config.exits["layers"])
    lengths = np.asarray(encoded.lengths, dtype=np.int64)
    return Records(
        lengths, kept, layers, exit_logits, logits, np.asarray(encoded.labels, dtype=np.int64)
    )


def plain_records(encoded: Encoded, logits: NDArray[Any], n_layers: int) -> Records:
    """Gives the records of a model without knobs, which keeps all tokens, from its logits.

    Args:
        encoded: The rows.
        logits: What the model said about them, `(rows, classes)`.
        n_layers: How many layers it has.
    """
    lengths = np.asarray(encoded.lengths, dtype=np.int64)
    said = np.asarray(logits, dtype=np.float64)
    return Records(
        lengths=lengths,
        kept=np.repeat(lengths[:, None], n_layers, axis=1),
        exit_layers=(),
        exit_logits=np.empty((len(said), 0, said.shape[1])),
        logits=said,
        labels=np.asarray(encoded.labels, dtype=np.int64),
    )


def sweep(
    model: TrimtabForSequenceClassification,
    encoded: Encoded,
    metric: str,
    workload: LengthHistogram,
    progress: Progress | None = None,
) -> tuple[list[Setting], dict[str, Records]]:
    """Measures all settings that nothing beats, and a fixed grid, on rows.

    The model comes back with the knobs it had.

    Returns:
        The settings, the one without any knob first, and the records at each scale by the name
        of their file.
    """
    rule, before = model.token_rule, model.config.knobs
    name, scales = ("", (1.0,)) if rule is None else SCALES[rule.placement]
    fixed: list[Setting] = []
    swept: list[Setting] = []
    kept: dict[str, Records] = {}
    try:
        for scale in sorted(scales, key=lambda value: value != 1.0):
            model.config.knobs = {} if scale == 1.0 else {name: scale}
            records = record(model, encoded, progress=progress)
            kept[records_file(model.config.knobs)] = records
            at_scale = _AtScale(model, records, metric, workload)
            if scale == 1.0:
                fixed += [at_scale.nobody_leaves(), *at_scale.grid()]
            else:
                fixed.append(at_scale.nobody_leaves())
            swept += at_scale.curves()
    finally:
        model.config.knobs = before
    best = [(fixed + swept)[place] for place in _staircase(*_arrays(fixed + swept))]
    return fixed + [setting for setting in best if setting not in fixed], kept


def flops_at(
    model: TrimtabForSequenceClassification,
    encoded: Encoded,
    workload: LengthHistogram,
    *,
    progress: Progress | None = None,
) -> float:
    """Gives the mean FLOPs of a model on rows, at the knobs that it has."""
    records, pricing = record(model, encoded, progress=progress), _pricing(model)
    macs, _ = outcome_at(pricing, records, model.config.knobs)
    return float(_flops(np.asarray(macs.sum()), pricing, records, workload))


def _pricing(model: TrimtabForSequenceClassification) -> Pricing:
    return Pricing.of(model.config.to_dict())


class _AtScale:
    """All settings at the scale at which records were taken."""

    def __init__(
        self,
        model: TrimtabForSequenceClassification,
        records: Records,
        metric: str,
        workload: LengthHistogram,
    ) -> None:
        self._records, self._metric, self._pricing = records, metric, _pricing(model)
        self._knobs = dict(model.config.knobs)
        self._workload = workload
        self._labelled = np.bincount(records.labels, minlength=model.num_labels)
        self._every = list(range(len(records.exit_layers)))

    def nobody_leaves(self) -> Setting:
        """Gives the setting at which no exit is read."""
        quantities = quantities_of(self._records, self._pricing.macs(self._records, []), [])
        (flops,), (value,) = self._measured(quantities.sum(axis=0))
        return Setting(self._knobs, float(value), float(flops))

    def grid(self) -> list[Setting]:
        """Gives the settings that are always measured, of all exits."""
        if not self._every:
            return []
        by_tau, *by_count = self._curves(self._every)
        places = np.searchsorted(by_tau[1].settings, GRID, side="right") - 1
        named = [({"tau": tau}, place) for tau, place in zip(GRID, places, strict=True)]
        found = self._at(by_tau[1], named)
        for rule, curve in by_count:
            counts = [({rule: int(count)}, place) for place, count in enumerate(curve.settings)]
            found += self._at(curve, counts)
        return found

    def curves(self) -> Iterator[Setting]:
        """Yields what is not beaten of each curve, of every subset of exits."""
        for used in subsets(len(self._every)):
            named: Knobs = {} if used == self._every else {"exits": used}
            for rule, curve in self._curves(used):
                flops, values = self._measured(curve.sums)
                chosen = [p for p in _staircase(flops, values) if curve.settings[p] != NOBODY]
                knobs = [(_knob(rule, curve.settings, p) | named, p) for p in chosen]
                yield from self._at(curve, knobs)

    def _curves(self, used: list[int]) -> list[tuple[str, Curve]]:
        records = self._records
        quantities = quantities_of(records, self._pricing.macs(records, used), used)
        predictions = predictions_of(records, used)
        return [
            ("tau", sweep_entropy(uncertainty(records.exit_logits[:, used]), quantities)),
            ("patience", sweep_patience(predictions, quantities)),
            ("agreements", sweep_patience(predictions, quantities, resets=False)),
        ]

    def _at(self, curve: Curve, places: Sequence[tuple[Knobs, Any]]) -> list[Setting]:
        flops, values = self._measured(curve.sums)
        return [
            Setting(self._knobs | knobs, float(values[place]), float(flops[place]))
            for knobs, place in places
        ]

    def _measured(self, sums: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        right, said = np.split(sums[:, 1:], 2, axis=1)
        values = metric_of_counts(self._metric, right, said, self._labelled)
        return _flops(sums[:, 0], self._pricing, self._records, self._workload), values


def _flops(
    macs: NDArray[Any], pricing: Pricing, records: Records, workload: LengthHistogram
) -> NDArray[np.float64]:
    """Turns MACs summed over the rows into mean FLOPs of the workload.

    Budgets are shares of what the dense model costs on the workload, all of the validation file.
    The rows are half of it, and by chance a little shorter or longer: so what is measured is the
    share of the rows' own static cost, times the workload's. A model that keeps everything costs
    its static cost to the last bit, so that it ties with the model that it was made from.
    """
    static = total_macs(pricing.shape, LengthHistogram.from_lengths(records.lengths.tolist()))
    return np.asarray(macs / static * mean_flops(pricing.shape, workload))


def subsets(n_exits: int) -> list[list[int]]:
    """Lists the subsets of exits to try, all of them first: of many, the plainest only."""
    every = list(range(n_exits))
    if n_exits <= MOST_IN_ALL_SUBSETS:
        sizes = range(n_exits, 0, -1)
        return [list(chosen) for size in sizes for chosen in combinations(every, size)]
    upper = [every[first:] for first in range(n_exits)]
    spread = [every[first::step] for step in (2, 3) for first in range(step)]
    single = [[place] for place in every]
    plainest = upper + spread + single
    return [used for place, used in enumerate(plainest) if used not in plainest[:place]]


def _knob(rule: str, settings: NDArray[np.float64], place: int) -> Knobs:
    """Names a setting; a threshold lies amid those that do the same, far from any uncertainty."""
    here = float(settings[place])
    if rule != "tau":
        return {rule: int(here)}
    above = float(settings[place + 1]) if place + 1 < len(settings) else 1.0
    return {"tau": (here + max(above, here)) / 2}


def _arrays(found: Sequence[Setting]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([s.flops for s in found]), np.array([s.metric for s in found])


def _staircase(flops: NDArray[np.float64], values: NDArray[np.float64]) -> list[int]:
    """Gives the places that no other beats: from cheap to dear, each better than all before."""
    order = np.lexsort((-values, flops))
    before = np.maximum.accumulate(np.r_[-np.inf, values[order][:-1]])
    return [int(place) for place in order[values[order] > before]]
