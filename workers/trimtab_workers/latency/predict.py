"""What a model will take at any setting of its knobs: parts of a table, added up by request.

Legend of shapes:
    N  rows of the records    Q  requests    B  texts of a request    L  layers

Which texts are there in a layer, and how many tokens each has, follows from the records; so a
request's time is what the parts take on the rows of the texts that are still there. Texts come
together at random, as those of requests do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.outcomes import PLACEMENTS, Pricing, leaves_at
from trimtab_strategies.records import Records
from trimtab_workers.latency._adding import Form, request_ms, times_of
from trimtab_workers.latency.table import Floats, LatencyTable
from trimtab_workers.latency.workload import Statistic, Workload

Ints = NDArray[np.int64]

FEWEST_REQUESTS = 200
"""Drawn of small data: each text is then in several requests, beside others."""
BISECTIONS = 20
QUANTILES = {"p50": 0.5, "p95": 0.95}


def predict(
    table: LatencyTable,
    pricing: Pricing,
    records: Records,
    knobs: Mapping[str, Any],
    workload: Workload,
) -> dict[str, float]:
    """Gives ``p50``, ``p95`` and ``mean``, in milliseconds a request.

    ``records`` must have been taken at the scale that ``knobs`` name.

    Raises:
        ValueError: if records, configuration, knobs and table do not fit together.
    """
    return predict_many(table, pricing, records, [knobs], workload)[0]


def predict_many(
    table: LatencyTable,
    pricing: Pricing,
    records: Records,
    settings: Sequence[Mapping[str, Any]],
    workload: Workload,
) -> list[dict[str, float]]:
    """Gives what :func:`predict` does for settings that share their records.

    Raises:
        ValueError: if records, configuration, knobs and table do not fit together.
    """
    _check(table, pricing, workload)
    requests = requests_of(records.lengths, workload)
    entering = np.column_stack([records.lengths, records.kept[:, :-1]])[requests]
    after = records.kept[requests]
    answers = []
    for knobs in settings:
        last, read = _leaving(records, knobs)
        there = last[requests][:, :, None] >= np.arange(pricing.shape.n_layers)
        rules = _rules(pricing, knobs)
        form = Form(pricing.shape.heads, pricing.shape.filters, rules, _exits(pricing, read))
        answers.append(statistics_of(times_of(table, form, entering * there, after * there)))
    return answers


def share_within(
    table: LatencyTable,
    shape: EncoderShape,
    lengths: Sequence[int],
    workload: Workload,
    statistic: Statistic,
    limit_ms: float,
) -> float | None:
    """Finds which share of the dense FLOPs a model may have that stays within a limit.

    The model is thought of as sliced alike in all layers, heads and filters by the same share.

    Args:
        table: What parts take.
        shape: The dense model's widths.
        lengths: Tokens of the data's texts.
        workload: How requests are made of them.
        statistic: What of the requests' times is limited.
        limit_ms: The limit, in milliseconds.

    Returns:
        A share from 0 to 1; None where not even a model with nothing left stays within.
    """
    known = np.asarray(lengths, dtype=np.int64)
    requests = known[requests_of(known, workload)]

    def fits(share: float) -> bool:
        heads, filters = ([share * n for n in widths] for widths in (shape.heads, shape.filters))
        return statistics_of(request_ms(table, heads, filters, requests))[statistic] <= limit_ms

    if not fits(0.0):
        return None
    within, beyond = 0.0, 1.0
    if fits(beyond):
        return beyond
    for _ in range(BISECTIONS):
        middle = (within + beyond) / 2
        within, beyond = (middle, beyond) if fits(middle) else (within, middle)
    return within


# Requests


def requests_of(lengths: Ints, workload: Workload) -> Ints:
    """Draws the rows [Q, B] of requests among texts with ``lengths``, the same ones each time."""
    random, size = np.random.default_rng(workload.seed), workload.batch_size
    n_requests = max(FEWEST_REQUESTS, -(-len(lengths) // size))
    if workload.lengths is None:
        n_rounds = -(-n_requests * size // len(lengths))
        if size == 1:  # texts alone are no different the second time
            n_rounds, n_requests = 1, len(lengths)
        order = np.concatenate([random.permutation(len(lengths)) for _ in range(n_rounds)])
        return order[: n_requests * size].reshape(n_requests, size)
    wanted = random.choice(workload.lengths, n_requests * size)
    return _nearest(lengths, wanted, random).reshape(n_requests, size)


def _nearest(lengths: Ints, wanted: Ints, random: np.random.Generator) -> Ints:
    """Draws for each wanted length one of the rows whose length is nearest to it."""
    order = np.argsort(lengths, kind="stable")
    known = lengths[order]
    above = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    below = np.maximum(above - 1, 0)
    is_nearer = wanted - known[below] < known[above] - wanted
    nearest = np.where(is_nearer, known[below], known[above])
    first, behind = np.searchsorted(known, nearest), np.searchsorted(known, nearest, side="right")
    return np.asarray(order[random.integers(first, behind)])


def statistics_of(times: Floats) -> dict[str, float]:
    """Gives ``p50``, ``p95`` and ``mean`` of the times of requests."""
    found = {name: float(np.quantile(times, share)) for name, share in QUANTILES.items()}
    return {**found, "mean": float(times.mean())}


# Settings


def _leaving(records: Records, knobs: Mapping[str, Any]) -> tuple[Ints, list[int]]:
    """Gives the last layer [N] that each row sees, and the layers behind which exits are read."""
    used = list(knobs.get("exits", range(len(records.exit_layers))))
    leaves, end = leaves_at(records, knobs, used), records.kept.shape[1] - 1
    if leaves is None:
        return np.full(len(records.lengths), end), []
    layers = [records.exit_layers[place] for place in used]
    return np.array([*layers, end], dtype=np.int64)[leaves], layers


def _exits(pricing: Pricing, layers: Iterable[int]) -> dict[int, tuple[str, float]]:
    settings = pricing.exits
    # An exit of attention reads its own first token, whatever is asked.
    read = "first" if settings["kind"] == "attention" else settings["read"]
    width = 1 if settings["kind"] == "linear" else settings["width"]
    return {layer: (f"exit/{settings['kind']}/{read}", width) for layer in layers}


def _rules(pricing: Pricing, knobs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names what lets tokens go in each layer: a rule, where there are heads to go by."""
    rule, shape = pricing.token_rule, pricing.shape
    if rule is None:
        return ("none",) * shape.n_layers
    shares = rule.get("shares", [0.0] * shape.n_layers)
    # A share that keeps all is not even looked at; thresholds are in the weights, not in here.
    acts = [share * float(knobs.get("alpha_sc", 1.0)) < 1 for share in shares]
    name = PLACEMENTS[rule["kind"]]
    return tuple(
        name if acting and heads else "none"
        for acting, heads in zip(acts, shape.heads, strict=True)
    )


def _check(table: LatencyTable, pricing: Pricing, workload: Workload) -> None:
    shape = pricing.shape
    for name, known, asked in (
        ("batch_size", table.batch_size, workload.batch_size),
        ("hidden_size", table.hidden_size, shape.hidden_size),
        ("head_dim", table.head_dim, shape.head_dim),
    ):
        if known != asked:
            raise ValueError(f"{name} must be {known}, as the table was measured, but got {asked}")
