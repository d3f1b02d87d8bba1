"""How well does the table of parts predict what models take that it has never seen?

Models of random form, made from the encoder as it is: layers with uneven numbers of heads and
filters, some with none; tokens that go by thresholds or shares at random knobs; exits of every
kind at random thresholds of uncertainty; and all of these together. Nothing is trained, since a
time does not ask who is right. Each is predicted from the records of the texts that it is timed
on, and then timed in turns with the dense model, one text and 32 texts a request; the times of
both are divided by the dense model's of the same turns, so that a change of the machine's speed
meets both. The table is measured once, before any of them.

Times are those of one thread's processor clock, which is what a request takes on a core of its own:
others may be using this machine. Of each request the median of a few rounds counts; the error is
that of the median over requests, and for single texts also that of their 95th percentile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import _paragraphs
import _turns
import _untrained
import numpy as np
from _paragraphs import Batch

UNIT = "|predicted - measured| / measured"
BENCHMARKS = [
    {"name": "latency-model-median", "goal": 0.10, "unit": UNIT, "better": "lower"},
    {"name": "latency-model-p90", "goal": 0.20, "unit": UNIT, "better": "lower"},
]
N_MODELS, N_TEXTS, AT_ONCE = 54, 64, 2
SIZES: Mapping[int, Sequence[str]] = {1: ("p50", "p95"), 32: ("p50",)}
RULES = ("none", "ltp", "acc")
EXITS = (None, "linear", "mlp", "attention")
READS = ("first", "mean", "both")
BASELINE = "the same models, timed in turns with the dense one"


@dataclass(frozen=True)
class Unseen:
    """A model that the table knows nothing of, and the records of the texts it is timed on."""

    about: dict[str, Any]
    model: Any
    records: Any


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives both figures and, as rows, what was predicted and measured of each model."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _rows(seed)
    finally:
        torch.set_num_threads(before)
    errors = [abs(row["error"]) for row in rows]
    figures = {"median": float(np.median(errors)), "p90": float(np.quantile(errors, 0.9))}
    return {
        f"latency-model-{name}": {
            "figure": figure,
            "baseline": BASELINE,
            "seeds": [seed],
            "rows": rows,
        }
        for name, figure in figures.items()
    }


def _rows(seed: int) -> list[dict[str, Any]]:
    from trimtab_workers.latency.measuring import measure_table
    from trimtab_workers.latency.workload import Workload

    _, texts = _paragraphs.short_rows(seed, N_TEXTS)
    _, dense = _paragraphs.models()
    random, longest = np.random.default_rng(seed), int(texts.lengths.max())
    rows: list[dict[str, Any]] = []
    tables = {
        size: measure_table(
            dense.config, Workload(size, "cpu", 1), longest, dense.device, time.thread_time
        )
        for size in SIZES
    }
    for first in range(0, N_MODELS, AT_ONCE):
        of_dense = Unseen({"form": "dense"}, dense, _recorded(dense, texts))
        several = [_unseen(dense, texts, random, first + i) for i in range(AT_ONCE)]
        for size, statistics in SIZES.items():
            batches = _paragraphs.batches_as_filed(texts, size)
            measured = _measured([of_dense, *several], batches, size)
            predicted = [_predicted(tables[size], one, size) for one in [of_dense, *several]]
            for one, ms, guess in zip(several, measured[1:], predicted[1:], strict=True):
                rows += [
                    {**one.about, **_row(size, name, ms, guess, measured[0], predicted[0])}
                    for name in statistics
                ]
    return rows


def _row(
    size: int,
    name: str,
    measured: Mapping[str, float],
    predicted: Mapping[str, float],
    dense: Mapping[str, float],
    dense_predicted: Mapping[str, float],
) -> dict[str, Any]:
    ratio, guess = measured[name] / dense[name], predicted[name] / dense_predicted[name]
    return {
        "batch_size": size,
        "statistic": name,
        "measured_ms": measured[name],
        "predicted_ms": predicted[name],
        "dense_ms": dense[name],
        "dense_predicted_ms": dense_predicted[name],
        "error": guess / ratio - 1,
    }


def _predicted(table: Any, one: Unseen, size: int) -> dict[str, float]:
    from trimtab_strategies.outcomes import Pricing
    from trimtab_workers.latency.predict import predict
    from trimtab_workers.latency.workload import Workload

    pricing, workload = Pricing.of(one.model.config.to_dict()), Workload(size, "cpu", 1)
    return predict(table, pricing, one.records, one.model.config.knobs, workload)


def _measured(
    models: Sequence[Unseen], batches: Sequence[Batch], size: int
) -> list[dict[str, float]]:
    """Times models in turns and gives the statistics over requests of each, in milliseconds."""
    usual = _turns.usual_ms([each.model for each in models], batches, size)
    return [
        {"p50": float(np.median(ms)), "p95": float(np.quantile(ms, 0.95)), "mean": ms.mean()}
        for ms in usual
    ]


# Models


def _unseen(dense: Any, texts: Any, random: np.random.Generator, number: int) -> Unseen:
    """Makes a model of random form; every combination of rule and exits comes up in turn."""
    combinations = [(rule, kind) for kind in EXITS for rule in RULES]
    rule, kind = combinations[number % len(combinations)]
    # A third keep all heads and filters, where there is another way to be unlike the dense model.
    is_sliced = random.random() < 2 / 3 or (rule, kind) == ("none", None)
    model = _sliced(dense, random) if is_sliced else _untrained.copied(dense)
    model, knobs = _with_rule(model, rule, random)
    read = str(random.choice(READS))
    if kind is not None:
        model = _untrained.with_exits(model, _paragraphs.batches_by_length(texts, 32), kind, read)
    model.config.knobs = dict(knobs)
    records = _recorded(model, texts)
    if kind is not None:
        model.config.knobs["tau"] = _tau(records, random)
    about = {
        "heads": model.config.heads_per_layer,
        "filters": model.config.filters_per_layer,
        "rule": rule,
        "exits": kind if kind in (None, "attention") else f"{kind} of {read}",
        "knobs": dict(model.config.knobs),
        "kept": records.kept.mean(axis=0).tolist(),
    }
    return Unseen(about, model, records)


def _sliced(dense: Any, random: np.random.Generator) -> Any:
    """Takes out heads and filters, layer by layer some other share, now and then all."""
    import torch

    from trimtab_strategies.elastic import Gates
    from trimtab_strategies.slicing import slice_model

    def gates(counts: Sequence[int]) -> list[Any]:
        drawn = []
        for count in counts:
            kept = 0 if random.random() < 0.1 else int(random.integers(1, count + 1))
            drawn.append((torch.arange(count) < kept).float())
        return drawn

    config = dense.config
    small = slice_model(
        dense, Gates(gates(config.heads_per_layer), gates(config.filters_per_layer))
    )
    return _untrained.copied(small)


def _with_rule(model: Any, rule: str, random: np.random.Generator) -> tuple[Any, dict[str, float]]:
    if rule == "ltp":
        return _untrained.with_thresholds(model), {"delta_scale": float(random.uniform(0.2, 1.5))}
    if rule == "acc":
        shares = random.uniform(0.7, 1.0, len(model.layers)).tolist()
        acting = _untrained.copied(model, token_rule={"kind": "share", "shares": shares})
        return acting, {"alpha_sc": float(random.uniform(0.85, 1.1))}
    return model, {}


def _tau(records: Any, random: np.random.Generator) -> float:
    """Draws a threshold amid the uncertainties that there are, not too near any of them."""
    from trimtab_strategies.replay import uncertainty

    known = np.unique(uncertainty(records.exit_logits))
    place = int(random.integers(len(known) // 20, len(known) // 2))
    return float(known[place : place + 2].mean())


def _recorded(model: Any, texts: Any) -> Any:
    from trimtab_workers.sweeping import record

    return record(model, texts)
