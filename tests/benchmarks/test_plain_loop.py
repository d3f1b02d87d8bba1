"""What the plain loop evaluates of each model."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_plain_loop")


@pytest.mark.parametrize(("placement", "n_exits"), [(None, 3), ("ltp", 3), ("acc", 3), ("ltp", 0)])
def test_settings_are_a_grid_with_the_plain_ones_in_it(
    loop: Any, placement: str | None, n_exits: int
) -> None:
    rule = None if placement is None else SimpleNamespace(placement=placement)
    settings = loop._knob_settings(SimpleNamespace(token_rule=rule, exits=[None] * n_exits))
    assert {} in settings and len({str(setting) for setting in settings}) == len(settings)
    assert len(settings) == (loop.N_SETTINGS if n_exits else 7)
    taus = sorted({setting["tau"] for setting in settings if "tau" in setting})
    assert not taus or (taus[0], taus[-1]) == pytest.approx(loop.THRESHOLDS)
    assert bool(taus) == bool(n_exits)


def test_a_model_without_knobs_is_evaluated_once(loop: Any) -> None:
    assert loop._knob_settings(SimpleNamespace(token_rule=None, exits=[])) == [{}]


def test_the_best_settings_are_those_that_nothing_beats(loop: Any) -> None:
    ranking = importlib.import_module("trimtab.controller._ranking")
    every = [
        ranking.Setting(drop / 1000, 1e6 * cost, cost / 100, id=cost)
        for cost in range(1, 61)
        for drop in (100 - cost, 101)
    ]
    best = loop._best(every)
    assert len(best) == loop.N_SETTINGS and {best[0].id, best[-1].id} == {1, 60}
    assert all(setting.drop < 0.1 for setting in best)
    assert loop._best(every[:4]) == [every[0], every[2]]
