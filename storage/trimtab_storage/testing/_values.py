"""The values and the clock that the contract's tests are written with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trimtab_storage.rows import (
    Json,
    Lease,
    NewArtifact,
    NewPoint,
    PointRow,
    Recipe,
    TrialRow,
)
from trimtab_storage.store import Store

TTL_S = 60.0


class ManualClock:
    """A clock that stands still until it is moved; seconds since 1970."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Gives the time, as `time.time` does."""
        return self.now


def make_recipe(number: int) -> Recipe:
    """Gives a recipe that differs for every number."""
    return [{"strategy": "fisher", "choices": {"calibration": 256, "number": number}}]


def make_point(key: str = "aa00", **changes: Any) -> NewPoint:
    """Gives a point of that artifact, with the fields given changed."""
    values: dict[str, Any] = {
        "artifact_key": key,
        "recipe": make_recipe(0),
        "knobs": {},
        "split": "search",
        "n": 100,
        "metric": 0.9,
        "drop": 0.01,
        "flops": 1e9,
        "flops_ratio": 0.5,
        "params": 1000,
        "latency": None,
        "feasible": True,
    }
    return NewPoint(**{**values, **changes})


def make_artifact(key: str = "aa00", **changes: Any) -> NewArtifact:
    """Gives an artifact without files, with the fields given changed."""
    values: dict[str, Any] = {
        "key": key,
        "kind": "fisher",
        "parent_key": None,
        "recipe": make_recipe(0),
        "strategy": "fisher",
        "path": None,
        "sha256": None,
        "size_bytes": None,
        "meta": {"rungs": 3},
        "seconds": 1.5,
    }
    return NewArtifact(**{**values, **changes})


def beaten(one: PointRow, others: list[PointRow], cost: Callable[[PointRow], float | None]) -> bool:
    """Tells by the definition whether another search point beats this one."""
    mine = cost(one)
    assert mine is not None
    return any(
        other.split == "search"
        and (theirs := cost(other)) is not None
        and other.drop <= one.drop
        and theirs <= mine
        and (other.drop < one.drop or theirs < mine)
        for other in others
    )


def timed(value: float | None, **others: Any) -> Json | None:
    """Gives a latency as points have it; None where there is none."""
    return None if value is None else {"value": value, "high": value, "verdict": "stable", **others}


def latency_of(row: PointRow) -> float | None:
    """Gives the number by which a point stands on the frontier of latency."""
    return None if row.latency is None else row.latency["value"]


def complete(store: Store, lease: Lease, number: int, *points: NewPoint) -> TrialRow:
    """Takes a new trial through to complete, with one default point if none is given."""
    trial = store.add_trial(lease, make_recipe(number), f"recipe-{number}")
    attempt = store.start_trial(lease, trial.id)
    store.complete_trial(
        lease,
        trial.id,
        attempt,
        points=points or (make_point(f"{number:04x}"),),
        artifacts=(),
        seconds=2.0,
        reused=0,
        result={"number": number},
    )
    return store.trials(lease.study_id)[trial.number]
