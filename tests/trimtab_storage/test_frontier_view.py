from __future__ import annotations

import itertools
import json
import random
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trimtab_storage import Lease, Store
from trimtab_storage.testing import make_point

COLUMNS = [
    "study",
    "cost",
    "point_id",
    "drop",
    "value",
    "metric",
    "flops",
    "flops_ratio",
    "params",
    "recipe",
    "knobs",
    "n",
    "feasible",
]


@pytest.fixture
def client(store: Store, tmp_path: Path) -> sqlite3.Connection:
    """Any SQL client, with a connection of its own while the store is open."""
    connection = sqlite3.connect(f"file:{tmp_path}/trimtab.db?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def test_view_shows_both_frontiers_to_any_client(
    store: Store, lease: Lease, client: sqlite3.Connection
) -> None:
    store.add_points(
        lease,
        [
            make_point("aa00", drop=0.01, flops=1e9, knobs={"tau": 0.5}),
            make_point("bb00", drop=0.03, flops=2e9, latency={"value": 7.0}, feasible=False),
        ],
    )
    rows = client.execute("SELECT * FROM frontier ORDER BY cost").fetchall()
    assert list(rows[0].keys()) == COLUMNS
    assert [(row["cost"], row["value"], row["drop"], row["feasible"]) for row in rows] == [
        ("flops", 1e9, 0.01, 1),
        ("latency", 7.0, 0.03, 0),
    ]
    assert rows[0]["study"] == "reviews"
    assert json.loads(rows[0]["knobs"]) == {"tau": 0.5}
    assert json.loads(rows[0]["recipe"]) == make_point().recipe
    store.add_points(lease, [make_point("cc00", drop=0.0, flops=1e8)])
    (row,) = client.execute("SELECT flops FROM frontier WHERE cost = 'flops'").fetchall()
    assert row["flops"] == 1e8


@pytest.mark.parametrize("cost", ["flops", "latency"])
def test_view_and_query_walk_the_index_of_the_frontier(
    store: Store, client: sqlite3.Connection, cost: str
) -> None:
    plan = client.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM frontier WHERE study = 'reviews' AND cost = ?", (cost,)
    ).fetchall()
    assert any(f"point_{cost}_frontier" in row["detail"] for row in plan)
    assert not any("SCAN point" in row["detail"] for row in plan)


def anticorrelated(rng: random.Random, count: int) -> list[tuple[float, float]]:
    """Gives pairs of cost and drop of which many are on the frontier."""
    pairs = []
    for _ in range(count):
        cost = rng.random()
        pairs.append((cost, 1.0 - cost + rng.random() * 0.5))
    return pairs


def fill(store: Store, lease: Lease, count: int, batch: int) -> None:
    rng = random.Random(7)
    for start in range(0, count, batch):
        store.add_points(
            lease,
            [
                make_point(f"{start + i:08x}", flops=cost, drop=drop, latency={"value": cost * 10})
                for i, (cost, drop) in enumerate(anticorrelated(rng, batch))
            ],
        )


def median_ms(work: Callable[[], object], times: int = 11) -> float:
    """In processor time, which other work on the machine hardly changes."""

    def once() -> float:
        start = time.process_time()
        work()
        return (time.process_time() - start) * 1000

    return statistics.median(once() for _ in range(times))


def steps_of_adding(store: Store, lease: Lease, key: str) -> int:
    """Gives how many hundreds of SQLite's instructions one more, beaten, point takes."""
    counted = itertools.count()
    # The store has one writing connection, so this is the one that will add the point.
    with store._database.write() as connection:
        raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.set_progress_handler(lambda: next(counted) < 0, 100)
    store.add_points(lease, [make_point(key, flops=2.0, drop=5.0)])
    raw.set_progress_handler(None, 0)
    return next(counted)


def test_flagging_does_not_walk_the_other_points(store: Store, lease: Lease) -> None:
    fill(store, lease, 500, 500)
    few = steps_of_adding(store, lease, "ff00")
    store.add_points(
        lease, [make_point(f"ee{i:08x}", flops=2.0 + i, drop=5.0) for i in range(5000)]
    )
    many = steps_of_adding(store, lease, "ff01")
    assert 0 < many <= 1.2 * few


@pytest.mark.slow
def test_frontier_of_200_000_points_is_fast(
    store: Store, lease: Lease, client: sqlite3.Connection
) -> None:
    fill(store, lease, 200_000, 5_000)
    members = store.frontier(lease.study_id)
    assert len(members) > 300
    query = "SELECT * FROM frontier WHERE study = 'reviews' AND cost = 'flops' ORDER BY value"
    times = {
        "store": median_ms(lambda: store.frontier(lease.study_id)),
        "store, with limits": median_ms(
            lambda: store.frontier(lease.study_id, "latency", max_drop=0.5, max_latency_ms=8.0)
        ),
        "view": median_ms(lambda: client.execute(query).fetchall()),
    }
    print(len(members), times)
    assert max(times.values()) <= 100
