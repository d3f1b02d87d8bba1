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


SURE = np.tile([1.0, 0.0], (N, 1))
"""A dense model that says the first of two classes, and is sure of it."""


def curve(halvings: Any, cost: int, right: Any) -> Any:
    """A model without exits that says the first class where it is right."""
    said = np.where(right, 0, 1)[:, None]
    return halvings.Curve({}, np.full((N, 1), cost), right[:, None], said, None)


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
    dense = curve(halvings, LAST, np.ones(N, dtype=bool))
    # Right on the half that decides, wrong on every row of the other.
    flattered = curve(halvings, EXIT, half)
    found = dict(halvings._outcomes([flattered], dense, SURE, half))
    assert set(found.values()) <= {(EXIT / LAST, 1.0), (1.0, 0.0)}
    assert found[max(halvings.MARGINS)] == (EXIT / LAST, 1.0)


def test_where_nothing_meets_the_margin_the_dense_model_stays(halvings: Any) -> None:
    half = np.arange(N) < N // 2
    dense = curve(halvings, LAST, np.ones(N, dtype=bool))
    useless = curve(halvings, EXIT, np.zeros(N, dtype=bool))
    found = {got for _, got in halvings._outcomes([useless], dense, SURE, half)}
    assert found == {(1.0, 0.0)}


def test_what_the_dense_model_half_believes_is_not_all_lost(halvings: Any) -> None:
    half = np.arange(N) < N // 2
    dense = curve(halvings, LAST, np.ones(N, dtype=bool))
    believed = np.tile([0.51, 0.49], (N, 1))
    other = curve(halvings, EXIT, np.zeros(N, dtype=bool))
    found = dict(halvings._outcomes([other], dense, believed, half))
    assert found[0.015] == (1.0, 0.0), "two points are believed to be lost"
    assert found[0.025] == (EXIT / LAST, 1.0)


def test_beliefs_are_as_sure_as_the_labels_allow(halvings: Any) -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=(20_000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    half = random.random(20_000) < 0.5
    found = halvings.beliefs(5 * logits, labels, half)
    assert np.abs(found - chances).max() < 0.02, "the sureness that is too much is taken back"
    again = halvings.beliefs(5 * logits, np.where(half, labels, 0), half)
    assert (found == again).all(), "labels of the half that reports say nothing"
