"""What a session keeps up to date by reading only what is new."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trimtab.controller._session import Session
from trimtab.query import choose_among
from trimtab.selection import Limits
from trimtab_storage import PointRow


class Points:
    """A store that has points alone, and counts those that were read."""

    def __init__(self) -> None:
        self.rows: list[PointRow] = []
        self.n_read = 0

    def points(self, study_id: int, after_id: int = 0) -> list[PointRow]:
        found = [row for row in self.rows if row.id > after_id]
        self.n_read += len(found)
        return found

    def add(self, drop: float, ratio: float, recipe: list[Any]) -> None:
        place: dict[str, Any] = {
            "id": len(self.rows) + 1,
            "study_id": 1,
            "trial_id": None,
            "artifact_key": "aa00",
            "recipe": recipe,
            "knobs": {},
            "split": "search",
            "n": 100,
            "metric": 0.9 - drop,
            "drop": drop,
            "flops": 1e6 * ratio,
            "flops_ratio": ratio,
            "params": 1000,
            "latency": None,
            "feasible": False,
            "on_flops_frontier": False,
            "on_latency_frontier": False,
            "created_at": "",
        }
        self.rows.append(PointRow(**place))


@pytest.fixture
def session(bench: Any) -> Session:
    from types import SimpleNamespace

    study = SimpleNamespace(id=1, elapsed_s=0.0)
    rest: list[Any] = [None] * 6
    made = Session(bench.spec(), Points(), study, *rest)  # type: ignore[arg-type]
    made.limits = Limits(max_drop=0.05, max_flops_ratio=0.4)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_best_point_is_that_of_all_points_and_each_is_read_once(
    session: Session, seed: int
) -> None:
    print(f"seed {seed}")
    rng, store = random.Random(seed), session._plain_store
    assert isinstance(store, Points) and session.limits is not None
    session.refresh_best()
    assert session.best is None
    store.add(0.0, 1.0, [])  # the dense baseline, over budget
    for _ in range(30):
        for _ in range(rng.randrange(4)):
            # Few values, so that there are ties, and first nothing that meets the limits.
            least = 1 if len(store.rows) > 15 else 6
            store.add(rng.randrange(10) / 100, rng.randrange(least, 10) / 10, [{"strategy": "x"}])
        session.refresh_best()
        assert session.best == vars(choose_among(store.rows, session.limits).point)
    assert store.n_read == len(store.rows)
