"""At equal drop: is Fisher pruning under a budget of time as fast as under a budget of FLOPs?

Four tasks, the encoder fine-tuned once on each. Both kinds of model are made by the default recipe
from the same gradients at the same rungs; what counts in time goes by prices from the table of
parts, measured once for single texts and once for requests of 32. Then each is timed in turns with
the dense model, on texts that are reported on, in the processor time of one thread, so that others
may use the machine. A rung's drop and time are means over the calibration seeds; between rungs both
go in straight lines, and a drop is the least that a faster or equally fast rung does not better.

The figure is the worst task's: the mean over request sizes and ``DROPS`` of how much longer the
model under FLOPs takes than the one under time, at the same drop.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import _combinations
import _paragraphs
import _tasks
import _turns
import numpy as np

import trimtab_strategies
import trimtab_workers

TRY = "TASK,…: of agnews, trec, sst2 and bbc only these"
TASKS = tuple(os.environ.get("TRIMTAB_TRY", "agnews,trec,sst2,bbc").split(","))
SIZES, SAMPLES, N_SEEDS, N_TEXTS = (1, 32), 1024, 1, 192
ANY = 0
RUNGS = (0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
DROPS = (0.0025, 0.005, 0.01, 0.02, 0.03)
UNIT = "x the time, at equal drop, of Fisher under FLOPs against Fisher under time, worst task"
Made = tuple[int, str, float]
"""A size of requests, a kind of cost, and a rung."""
BENCHMARKS = [{"name": "latency-fisher", "goal": 1.0, "unit": UNIT, "better": "higher"}]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the figure; a row for every task, request size, kind of cost and rung."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for name in TASKS for row in kept_rows(name, seed)]
    finally:
        torch.set_num_threads(before)
    gains = {name: gains_of([row for row in rows if row["task"] == name]) for name in TASKS}
    print(gains, flush=True)
    return {
        "latency-fisher": {
            "figure": min(statistics.mean(by_case.values()) for by_case in gains.values()),
            "baseline": "the same recipe and gradients under a budget of FLOPs, same turns",
            "seeds": list(range(seed, seed + N_SEEDS)),
            "rows": [*rows, *({"task": name, "gains": gains[name]} for name in TASKS)],
        }
    }


def gains_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Gives for each request size and drop how much faster models are that count in time.

    Compared is at drops that both kinds come to at some rung, which the smallest of ``DROPS`` do.
    """
    gains = {}
    for size in SIZES:
        kinds = [
            [row for row in rows if row["batch_size"] == size and row["cost"] == cost]
            for cost in ("flops", "latency")
        ]
        reached = min(max(float(row["drop"]) for row in kind) for kind in kinds)
        for drop in (drop for drop in DROPS if drop <= reached):
            by_flops, by_time = (_time_at(drop, kind) for kind in kinds)
            gains[f"batch {size}, {100 * drop:g} pt"] = by_flops / by_time
    return gains


def _time_at(drop: float, rows: Sequence[Mapping[str, Any]]) -> float:
    """Gives the least share of the dense time at a drop, between rungs by straight lines."""
    ordered = sorted(rows, key=lambda row: -float(row["time_ratio"]))
    points = [(1.0, 0.0), *((row["time_ratio"], row["drop"]) for row in ordered)]
    within = max(place for place, (_, one) in enumerate(points) if one <= drop)
    if within == len(points) - 1:
        return float(points[-1][0])
    (slow, low), (fast, high) = points[within], points[within + 1]
    return float(slow + (fast - slow) * (drop - low) / (high - low))


def kept_rows(name: str, seed: int) -> list[dict[str, Any]]:
    """Gives the rows of a task, measured once for the same code."""
    packages = (trimtab_strategies, trimtab_workers)
    code = _combinations.digest_of([p for one in packages for p in _combinations.sources(one)])
    kept = _tasks.CACHE / name / f"latency-fisher-{seed}-{code}.pickle"
    found: list[dict[str, Any]] = _combinations.once(kept, lambda: _rows(name, seed))
    return found


def _rows(name: str, seed: int) -> list[dict[str, Any]]:
    prepared = _tasks.prepare(name)
    dense = _accuracy(prepared, prepared.model)
    prices = {size: _prices(prepared, size) for size in SIZES}
    found: dict[Made, list[dict[str, float]]] = {}
    for one in range(seed, seed + N_SEEDS):
        made = _made(prepared, one, prices)
        accuracy = {key: _accuracy(prepared, model) for key, model in made.items()}
        for size in SIZES:
            asked = {key: model for key, model in made.items() if key[0] in (ANY, size)}
            for key, ratio in _time_ratios(prepared, asked, size).items():
                each = {"time_ratio": ratio, "drop": dense - accuracy[key]}
                found.setdefault((size, *key[1:]), []).append(each)
    rows = [
        {
            "task": name,
            "batch_size": size,
            "cost": cost,
            "rung": rung,
            "prices": str(prices[size]),
            **{what: statistics.mean(each[what] for each in every) for what in every[0]},
            "each": every,
        }
        for (size, cost, rung), every in found.items()
    ]
    for row in rows:
        print({key: value for key, value in row.items() if key != "each"}, flush=True)
    return rows


def _accuracy(prepared: _tasks.Prepared, model: Any) -> float:
    """Measures on the rows to develop on as well: nothing here was chosen with a look at any."""
    counts = {split: len(getattr(prepared, split)) for split in ("develop", "report")}
    right = sum(n * prepared.accuracy(model, split) for split, n in counts.items())
    return float(right / sum(counts.values()))


def _prices(prepared: _tasks.Prepared, size: int) -> Any:
    from trimtab_strategies.slicing import shape_of
    from trimtab_workers.latency.measuring import measure_table
    from trimtab_workers.latency.prices import prices_of
    from trimtab_workers.latency.workload import Workload

    model, lengths = prepared.model, [int(n) for n in prepared.report.lengths]
    workload = Workload(size, "cpu", 1)
    table = measure_table(model.config, workload, max(lengths), model.device, time.thread_time)
    return prices_of(table, shape_of(model.config), lengths, workload, "mean")


def _made(prepared: _tasks.Prepared, seed: int, prices: Mapping[int, Any]) -> dict[Made, Any]:
    """Makes the models of a seed: by request size (or any), kind of cost, and rung."""
    from trimtab_strategies import registry
    from trimtab_strategies.base import PRICES, default_choices

    fisher, calibration = registry.get("fisher"), prepared.calibration(seed)
    usual = {**default_choices(fisher), "calibration": SAMPLES}
    statistic = fisher.prepare(prepared.model, calibration, usual, _quiet)
    kinds = {(ANY, "flops"): usual} | {
        (size, "latency"): {**usual, "cost": "latency", PRICES: str(each)}
        for size, each in prices.items()
    }
    made = {}
    for (size, cost), choices in kinds.items():
        variants = fisher.apply(prepared.model, calibration, choices, statistic, RUNGS, _quiet)
        for rung, variant in zip(RUNGS, variants, strict=True):
            made[size, cost, rung] = variant.model
            print(prepared.task.name, size, cost, rung, variant.notes, flush=True)
    return made


def _time_ratios(
    prepared: _tasks.Prepared, models: Mapping[Made, Any], size: int
) -> dict[Made, float]:
    """Times models in turns with the dense one; their mean request as a share of its."""
    rows = prepared.report.select(np.arange(min(N_TEXTS, len(prepared.report))))
    every = [prepared.model, *models.values()]
    for model in every:
        model.keep_layouts()
    ms = _turns.usual_ms(every, _paragraphs.batches_as_filed(rows, size), size).mean(axis=1)
    return dict(zip(models, (ms[1:] / ms[0]).tolist(), strict=True))


def _quiet(*_: Any) -> None:
    """Takes no notice of progress."""
