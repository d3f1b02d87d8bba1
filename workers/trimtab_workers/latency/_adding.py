"""The time of requests: parts of a table, added up over layers and the texts that are there.

Legend of shapes:
    Q  requests    B  texts of a request    L  layers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_workers.latency.table import Floats, LatencyTable, is_fused

Ints = NDArray[np.int64]

PAYS_FROM = 0.02
"""Share of a request's rows that must go before the rest is moved; as in the packed forward."""


@dataclass(frozen=True)
class Form:
    """What of a model times depend on: each layer's widths and token rule, and the exits read."""

    heads: tuple[float, ...]
    filters: tuple[float, ...]
    rules: tuple[str, ...]
    exits: Mapping[int, tuple[str, float]]


def request_ms(
    table: LatencyTable, heads: Sequence[float], filters: Sequence[float], lengths: NDArray[Any]
) -> Floats:
    """Gives the milliseconds [Q] of requests of texts with ``lengths`` [Q, B], all tokens kept."""
    form = Form(tuple(heads), tuple(filters), ("none",) * len(heads), {})
    tokens = np.repeat(np.asarray(lengths, dtype=np.int64)[:, :, None], len(heads), axis=2)
    return times_of(table, form, tokens, tokens)


def times_of(table: LatencyTable, form: Form, entering: Ints, after: Ints) -> Floats:
    """Adds up the parts of requests with tokens ``entering`` and ``after`` layers, [Q, B, L].

    Tokens are 0 where a text is not there any more.
    """
    parts, last = table.parts, entering.shape[2] - 1
    texts = np.count_nonzero(entering, axis=1)  # [Q, L]
    rows = table.rounded(entering.sum(axis=1))
    left = table.rounded(_moved(entering.sum(axis=1), after.sum(axis=1)))
    total = parts["front"].of(0, rows[:, 0])
    total = total + _attention_ms(table, form, entering)
    for layer, (heads, filters) in enumerate(zip(form.heads, form.filters, strict=True)):
        here, there = texts[:, layer] > 0, left[:, layer]
        asked, attended, fed = "asked/none", rows[:, layer], there
        if layer == last:
            asked, attended, fed = "asked/last", texts[:, layer], texts[:, layer]
        elif form.rules[layer] == "acc":
            attended = there
        ms = parts[asked].of(heads, rows[:, layer])
        ms = ms + parts["attended"].of(heads, attended) + parts["fed"].of(filters, fed)
        total = total + here * ms
        if layer in form.exits:
            total = total + here * _exit_ms(table, form.exits[layer], there)
            goes = texts[:, layer + 1] < texts[:, layer]
            total = total + (goes * parts["leave"].of(0, there) if np.any(goes) else 0.0)
    end = texts[:, last]
    summed: Floats = total + (end > 0) * parts["head"].of(0, end)
    return table.calibration * summed


def _exit_ms(table: LatencyTable, exit_: tuple[str, float], rows: Ints) -> Floats:
    name, width = exit_
    return table.parts[name].of(width, rows)


def _moved(rows: Ints, kept: Ints) -> Ints:
    """Gives how many rows [Q, L] are computed on: all, where too few go to move the others."""
    return np.where(kept > (1 - PAYS_FROM) * rows, rows, kept)


def _attention_ms(table: LatencyTable, form: Form, entering: Ints) -> Floats:
    """Gives what attention between the projections takes, over all layers, [Q].

    Texts are taken from the longest to the shortest, and a group ends where going on would waste
    more than starting anew costs; see ``grouped`` in ``elastic/rows_trimtab.py``.
    """
    fused = [is_fused(_core(form, place)) for place in range(entering.shape[2])]
    tokens = -np.sort(-np.where(fused, table.padded(entering), entering), axis=1)
    alone, beside = _group_ms(table, form, int(tokens.max()))
    layer = np.arange(entering.shape[2])[None, :]
    bound = table.group_macs / (2 * max(max(form.heads) * table.head_dim, 1))
    longest, wasted = tokens[:, 0], np.zeros_like(tokens[:, 0])
    total = alone[layer, longest]
    for place in range(1, tokens.shape[1]):
        here = tokens[:, place]
        wasted = wasted + longest**2 - here**2
        starts = wasted > bound
        longest, wasted = np.where(starts, here, longest), np.where(starts, 0, wasted)
        ms = np.where(starts, alone[layer, longest], beside[layer, longest])
        total = total + np.where(here > 0, ms, 0.0)
    summed: Floats = total.sum(axis=1)
    return summed


def _core(form: Form, place: int) -> str:
    """Names what attention a layer has between the projections, as the table does."""
    return "last" if place == len(form.heads) - 1 else form.rules[place]


def _group_ms(table: LatencyTable, form: Form, longest: int) -> tuple[Floats, Floats]:
    """Gives, by layer and tokens [L, n+1], what a group's first text takes, and each other one."""
    tokens = np.arange(longest + 1)
    first, others = [], []
    for place, heads in enumerate(form.heads):
        name = _core(form, place)
        alone = table.parts[f"few/{name}"].of(heads, tokens)
        beside = np.zeros_like(alone)
        if table.batch_size > table.few:
            many = table.parts[f"many/{name}"].of(heads, tokens)
            beside = np.maximum(many - alone, 0.0) / (table.batch_size - table.few)
            alone = np.maximum(alone - (table.few - 1) * beside, 0.0)
        alone[0] = 0.0  # no text
        first.append(alone)
        others.append(beside)
    return np.stack(first), np.stack(others)
