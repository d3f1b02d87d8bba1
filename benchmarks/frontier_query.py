"""How long does a frontier take to read from a database that holds a million points?

The points are added by the store's own `add_points`, batch by batch, so the flags on which the
frontier rests are those that a controller keeps. They look like those of a long search: ten
thousand models, each with a hundred settings of its knobs. A query is timed from the opening of
the database to the answer; the figure is the slowest query's median.

Which point is the best is another question, but one that is answered under the table of `trimtab
frontier`; its time is told in a row of its own and is not part of the figure.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from trimtab import open_study
from trimtab.cli._show import frontier_plain
from trimtab_storage import Lease, NewPoint, Store

N_MODELS, N_SETTINGS, MODELS_A_BATCH, REPEATS = 10_000, 100, 100, 21
FLOPS, METRIC, STUDY = 1e9, 0.92, "million"
VIEW = "SELECT * FROM frontier WHERE study = ? AND cost = 'flops' ORDER BY value"

BENCHMARKS = [
    {
        "name": "frontier-query",
        "goal": 100.0,
        "unit": "ms for a frontier among a million points, median of the slowest query",
        "better": "lower",
    }
]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Fills a database, asks it in every way, and gives a row for each of them."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "trimtab.db"
        started = time.perf_counter()
        n_points = fill(path, seed, N_MODELS)
        filled_s = time.perf_counter() - started
        rows = [_timed(name, ask) for name, ask in queries(path).items()]
        best = _timed("the best point, not part of the figure", _choose(path), repeats=1)
    about = {"points": n_points, "fill_s": filled_s, "fill_us_a_point": 1e6 * filled_s / n_points}
    return {
        "frontier-query": {
            "figure": max(row["median_ms"] for row in rows),
            "baseline": "none: an absolute bound",
            "seeds": [seed],
            "rows": [*rows, best, about],
        }
    }


def queries(path: Path) -> dict[str, Callable[[], Any]]:
    """Gives the ways to ask; each opens the database, asks, and gives what has a length."""
    url = f"sqlite:///{path}"

    def in_sql() -> Any:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(VIEW, (STUDY,)).fetchall()

    return {
        "frontier --json": lambda: frontier_plain(open_study(STUDY, db=url), None, "flops")[
            "points"
        ],
        "frontier within other limits, as a data frame": lambda: open_study(STUDY, db=url).frontier(
            max_drop="2 pt", max_flops="60%"
        ),
        "the view, in plain SQL": in_sql,
    }


def _choose(path: Path) -> Callable[[], Any]:
    return lambda: [open_study(STUDY, db=f"sqlite:///{path}").choose()]


def _timed(name: str, ask: Callable[[], Any], repeats: int = REPEATS) -> dict[str, Any]:
    if repeats > 1:
        ask()  # what is imported on the way is no part of a query
    found, seconds = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        found = ask()
        seconds.append(time.perf_counter() - started)
    return {
        "query": name,
        "answer": len(found),
        "median_ms": 1000 * statistics.median(seconds),
        "slowest_ms": 1000 * max(seconds),
        "times": repeats,
    }


def fill(path: Path, seed: int, n_models: int) -> int:
    """Fills a new database with one study's points and gives how many there are."""
    with Store.open(f"sqlite:///{path}", controller=True) as store:
        study = store.create_study(STUDY, {}, {}, {})
        lease = store.acquire(study.id, "benchmark", 3600.0)
        _set_limits(store, lease)
        count = 0
        for batch in _batches(seed, n_models):
            count += len(store.add_points(lease, batch))
        store.release(lease)
    return count


def _set_limits(store: Store, lease: Lease) -> None:
    baseline = {"metric": METRIC, "flops": FLOPS, "params": 10_000_000, "latency_ms": None}
    limits = {"max_drop": 0.01, "max_flops_ratio": 0.4, "max_flops": None, "max_latency_ms": None}
    store.update_study(lease, baseline=baseline, limits=limits)


def _batches(seed: int, n_models: int) -> Iterator[list[NewPoint]]:
    rng = np.random.default_rng(seed)
    for first in range(0, n_models, MODELS_A_BATCH):
        batch: list[NewPoint] = []
        for model in range(first, min(first + MODELS_A_BATCH, n_models)):
            batch += _model(rng, f"{model:08x}")
        yield batch


def _model(rng: np.random.Generator, key: str) -> Iterator[NewPoint]:
    """Draws a model somewhere above the best possible curve, and its settings of rising drop."""
    cost = rng.uniform(0.1, 1.0)
    drop = 0.01 * (1 - cost) ** 2 / cost + rng.exponential(0.01)
    shares = np.sort(rng.uniform(0.4, 1.0, N_SETTINGS))[::-1]
    steps = np.cumsum(rng.exponential(0.0005, N_SETTINGS))
    recipe = [{"strategy": "fisher", "choices": {"calibration": 2048, "constraint": float(cost)}}]
    for share, step in zip(shares, steps, strict=True):
        ratio, lost = float(cost * share), float(drop + step)
        yield NewPoint(
            artifact_key=key,
            recipe=recipe,
            knobs={"exit_threshold": float(step)},
            split="search",
            n=1000,
            metric=METRIC - lost,
            drop=lost,
            flops=FLOPS * ratio,
            flops_ratio=ratio,
            params=10_000_000,
            latency=None,
            feasible=lost <= 0.01 and ratio <= 0.4,
        )
