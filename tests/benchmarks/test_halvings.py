"""How a setting is chosen on one half of the rows and reported on the other."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trimtab_strategies.records import Records

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
N, LAST, EXIT = 400, 100, 10


@pytest.fixture
def halvings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_halvings")


def recorded(singles: str | None, together: str, exit_right: Any, right: Any, cost: int) -> Any:
    """A model with one exit; it is sure where ``exit_right``, and undecided elsewhere."""
    said = np.where(exit_right[:, None], [[9.0, 0.0]], [[0.0, 0.1]])
    final = np.where(right[:, None], [[9.0, 0.0]], [[0.0, 9.0]])
    ones = np.ones(N, dtype=np.int64)
    records = Records(
        ones, np.ones((N, 2), dtype=np.int64), (0,), said[:, None], final, np.zeros_like(ones)
    )

    def macs(records: Any, used: list[int]) -> Any:
        return np.tile([EXIT, cost] if used else [cost], (N, 1))

    return SimpleNamespace(
        singles=singles,
        together=together,
        about={},
        records=records,
        pricing=SimpleNamespace(macs=macs),
    )


@pytest.fixture
def every_seed() -> dict[int, list[Any]]:
    right = np.arange(N) % 10 != 0  # nine of ten
    sure = np.arange(N) % 4 == 0  # a quarter, which the dense model gets right mostly
    return {
        seed: [
            recorded("dense", "exits", sure, right | sure, LAST),
            recorded("Fisher", "Fisher + exits", sure, right | sure, LAST // 2),
        ]
        for seed in range(3)
    }


def test_what_is_free_is_taken_and_priced_on_the_other_half(
    halvings: Any, every_seed: dict[int, list[Any]]
) -> None:
    rows = halvings.halved(every_seed)
    assert {row["outcomes"] for row in rows} == {3 * halvings.N_HALVINGS}
    fisher = halvings.best(rows, "Fisher")
    assert fisher["times_fewer_flops"] == pytest.approx(2)
    assert fisher["drop_points"] == pytest.approx(0)
    # A quarter leaves for 10 of 100 (of 50) without a mistake; beyond that exits are wrong.
    exits, both = halvings.best(rows, "exits"), halvings.best(rows, "Fisher + exits")
    assert exits["times_fewer_flops"] == pytest.approx(1 / 0.775, rel=0.03)
    assert both["times_fewer_flops"] == pytest.approx(2 / (0.75 + 0.05), rel=0.03)
    together, single = (halvings.best(rows, name) for name in halvings.POOLED)
    assert together["times_fewer_flops"] == pytest.approx(both["times_fewer_flops"])
    assert single["times_fewer_flops"] == pytest.approx(2)


def test_a_drop_that_the_deciding_half_hides_is_reported(halvings: Any) -> None:
    half = np.arange(N) < N // 2
    dense = np.stack([np.full(N, LAST), np.ones(N)], axis=1)
    # Right on the half that decides, wrong on every row of the other.
    flattered = halvings.Curve({}, np.stack([np.full(N, EXIT), half], axis=1)[:, None], None)
    for _, (share, drop) in halvings._outcomes([flattered], dense, half):
        assert (share, drop) in {(EXIT / LAST, 1.0), (1.0, 0.0)}
    widest = dict(halvings._outcomes([flattered], dense, half))[0.01]
    assert widest == (EXIT / LAST, 1.0)


def test_where_nothing_meets_the_margin_the_dense_model_stays(halvings: Any) -> None:
    half = np.arange(N) < N // 2
    dense = np.stack([np.full(N, LAST), np.ones(N)], axis=1)
    useless = halvings.Curve({}, np.stack([np.full(N, EXIT), np.zeros(N)], axis=1)[:, None], None)
    assert {got for _, got in halvings._outcomes([useless], dense, half)} == {(1.0, 0.0)}
