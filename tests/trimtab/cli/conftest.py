"""Studies that were never run: rows as a search would have left them, made in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab._owners import this_owner
from trimtab_storage import Lease, NewPoint, Store

BASELINE_FLOPS = 1e9
LIMITS = {"max_drop": 0.02, "max_flops_ratio": 0.5}
SPEC: dict[str, Any] = {
    "task": {"metric": "accuracy"},
    "budget": {"flops": "50%"},
    "max_drop": "2 pt",
    "search": {"trials": 4, "time": "30 min", "seed": 0},
}


def step(**choices: Any) -> list[dict[str, Any]]:
    return [{"strategy": "fisher", "choices": choices}]


def make_point(key: str, ratio: float, drop: float, **changes: Any) -> NewPoint:
    recipe = [] if ratio == 1 else step(calibration=512, rearrange=True, constraint=ratio)
    values: dict[str, Any] = {
        "artifact_key": key,
        "recipe": recipe,
        "knobs": {},
        "split": "search",
        "n": 200,
        "metric": 0.9 - drop,
        "drop": drop,
        "flops": ratio * BASELINE_FLOPS,
        "flops_ratio": ratio,
        "params": int(ratio * 1_000_000),
        "latency": None,
        "feasible": ratio <= 0.5 and drop <= 0.02,
    }
    return NewPoint(**{**values, **changes})


def begin(store: Store, name: str, spec: dict[str, Any] = SPEC) -> Lease:
    study = store.create_study(name, spec, {}, {})
    return store.acquire(study.id, f"test-{name}", 3600)


def measure_baseline(store: Store, lease: Lease) -> None:
    baseline = {"metric": 0.9, "flops": BASELINE_FLOPS, "params": 1_000_000, "n": 200}
    row = {**baseline, "latency_ms": None, "artifact": "aa00"}
    store.update_study(lease, baseline=row, limits=LIMITS, state="running", elapsed_s=61.5)
    store.add_points(lease, [make_point("aa00", 1.0, 0.0)])


def complete(store: Store, lease: Lease, *points: NewPoint) -> None:
    number = len(store.trials(lease.study_id))
    trial = store.add_trial(lease, step(calibration=512, number=number), f"recipe-{number}")
    attempt = store.start_trial(lease, trial.id)
    store.complete_trial(
        lease,
        trial.id,
        attempt,
        points=points,
        artifacts=(),
        seconds=12.5,
        reused=1,
        result={},
    )


def fail(store: Store, lease: Lease, reason: str) -> None:
    number = len(store.trials(lease.study_id))
    trial = store.add_trial(lease, step(calibration=256, number=number), f"recipe-{number}")
    attempt = store.start_trial(lease, trial.id)
    store.fail_trial(lease, trial.id, attempt, reason, 3.0)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trimtab.db'}"


@pytest.fixture
def searched(db: str) -> str:
    """A finished study `reviews`: points at 60, 40 and 30 %, the last one over the drop."""
    with Store.open(db) as store:
        lease = begin(store, "reviews")
        measure_baseline(store, lease)
        complete(store, lease, make_point("b060", 0.6, 0.002), make_point("b040", 0.4, 0.01))
        complete(store, lease, make_point("b030", 0.3, 0.05), make_point("b041", 0.41, 0.03))
        fail(store, lease, "error: [red]\x1b[31mboom[/x] :bomb:\nTraceback (most recent call last)")
        store.update_study(lease, state="finished")
        store.release(lease)
    return db


@pytest.fixture
def searching(db: str) -> str:
    """A study `reviews` whose controller is alive: one trial done, one running, one waiting."""
    with Store.open(db) as store:
        lease = begin(store, "reviews")
        measure_baseline(store, lease)
        complete(store, lease, make_point("b040", 0.4, 0.01))
        for number in (1, 2):
            trial = store.add_trial(lease, step(calibration=1024, number=number), f"r-{number}")
            if number == 1:
                store.start_trial(lease, trial.id)
    return db


@pytest.fixture
def held_by(db: str) -> Callable[[str], str]:
    """Makes a study `reviews` that an owner holds, with nothing measured yet."""

    def hold(owner: str) -> str:
        with Store.open(db) as store:
            study = store.create_study("reviews", SPEC, {}, {})
            store.update_study(store.acquire(study.id, owner, 3600), state="running")
        return db

    return hold


@pytest.fixture
def fine_tuning(held_by: Callable[[str], str]) -> str:
    """A study `reviews` whose controller is alive and has measured nothing yet."""
    return held_by(this_owner())


@pytest.fixture
def add_study(db: str) -> Callable[..., str]:
    """Adds a study to the database: ``add_study("other", *points)``."""

    def add(name: str, *points: NewPoint, time: str = "30 min", measured: bool = True) -> str:
        with Store.open(db) as store:
            lease = begin(store, name, {**SPEC, "search": {**SPEC["search"], "time": time}})
            if measured:
                measure_baseline(store, lease)
            if points:
                complete(store, lease, *points)
            store.release(lease, state=None if measured else "new")
        return db

    return add


@pytest.fixture
def point() -> Callable[..., NewPoint]:
    """Makes a point: ``point("abcd", 0.4, 0.01, latency=...)``."""
    return make_point
