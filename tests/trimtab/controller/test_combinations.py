"""Strategies together, on a real tiny model: chains of steps, knobs, the dial, sharing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.study import Study
from trimtab_storage import Reader, check_invariants
from trimtab_strategies.records import Records

pytestmark = pytest.mark.slow

STRATEGIES = """
    - fisher: {calibration: 256}
    - ltp: {thresholds: manual, last_threshold: 0.02}
    - acc: {epochs: 0}
    - early_exit: {rows: 1024, epochs: 5, lr: 0.005}
"""
N_COMBINATIONS = 11


@pytest.fixture(scope="module")
def combined(workspace_in: Callable[[Path], Any], tmp_path_factory: Any) -> Any:
    made = workspace_in(tmp_path_factory.mktemp("combined"))
    made.edit(
        {
            r"\n    - fisher: \{calibration: \[256\]\}\n": STRATEGIES.rstrip(" "),
            "trials: 2": f"trials: {N_COMBINATIONS}",
            "max_drop: 2 pt": "max_drop: 5 pt",
        }
    )
    trimtab.run(trimtab.Spec.load(made.spec), db=made.db)
    return made


@pytest.fixture(scope="module")
def study(combined: Any) -> Study:
    return trimtab.open_study("starter", db=combined.db)


def test_every_sound_combination_is_tried_in_the_sound_order(study: Study) -> None:
    tried = [tuple(step["strategy"] for step in trial.recipe) for trial in study.trial_rows()]
    assert len(set(tried)) == N_COMBINATIONS
    order = ["fisher", "ltp", "acc", "early_exit"]
    for names in tried:
        assert list(names) == sorted(names, key=order.index)
        assert not {"ltp", "acc"} <= set(names)
    assert {trial.state for trial in study.trial_rows()} == {"complete"}, study.trial_rows()


def test_steps_that_recipes_share_are_made_once(study: Study, combined: Any) -> None:
    with Reader.open_reader(combined.db) as reader:
        models = [row for row in reader.artifacts() if row.kind == "model"]
        assert check_invariants(reader, study.row().id) == []
    by_recipe = [json.dumps(row.recipe, sort_keys=True) for row in models]
    assert len(by_recipe) == len(set(by_recipe))
    parents = {row.key: row.parent_key for row in models}
    for row in models:
        depth, key = 0, row.key
        while key in parents:
            key, depth = str(parents[key]), depth + 1
        assert depth == len(row.recipe), "each step starts from the model of the one before"
    fisher = [row for row in models if [s["strategy"] for s in row.recipe] == ["fisher"]]
    used = [row.parent_key for row in models if len(row.recipe) == 2]
    assert any(used.count(row.key) >= 3 for row in fisher), "ltp, acc and exits share one"
    assert sum(trial.reused for trial in study.trial_rows()) >= 6


def test_knobs_make_points_without_training(study: Study) -> None:
    points = study.points()
    of_exits = [p for p in points if [s["strategy"] for s in p.recipe] == ["early_exit"]]
    assert {name for p in of_exits for name in p.knobs} >= {"tau", "patience", "agreements"}
    (plain,) = [p for p in of_exits if not p.knobs]
    assert plain.flops_ratio == pytest.approx(1.0)
    assert plain.drop == pytest.approx(0.0)
    of_acc = [p for p in points if [s["strategy"] for s in p.recipe] == ["acc"]]
    by_scale = {p.knobs.get("alpha_sc", 1.0): p.flops for p in of_acc}
    assert list(by_scale.values()) == [flops for _, flops in sorted(by_scale.items())] or (
        sorted(by_scale.values()) == [flops for _, flops in sorted(by_scale.items())]
    )
    assert {p.knobs.get("delta_scale") for p in points} >= {0.5, 2.0}


def test_the_checkpoint_is_set_to_its_point_and_carries_its_dial(
    study: Study, tmp_path: Path
) -> None:
    chosen = min((p for p in study.points() if "tau" in p.knobs), key=lambda p: p.flops)
    emission = study.emit(tmp_path / "out", max_flops=chosen.flops_ratio * 1.0001, max_drop=0.99)
    point = emission.point
    assert point.flops <= chosen.flops * 1.0001
    model = trimtab.load(tmp_path / "out")
    assert model.config.knobs == point.knobs
    dial = model.config.operating_points
    assert [p["flops"] for p in dial] == sorted(p["flops"] for p in dial)
    dearest = model.set_operating_point()
    assert model.config.knobs == dearest["knobs"]
    cheapest = model.set_operating_point(max_flops=dial[0]["flops_ratio"])
    assert cheapest["knobs"] == dial[0]["knobs"] == model.config.knobs
    found = trimtab.verify(tmp_path / "out")
    assert found["params"] == point.params
    card = (tmp_path / "out" / "README.md").read_text()
    assert " at " in card.split("Recipe: ")[1].splitlines()[0] or not point.knobs


def test_verifying_on_rows_measures_what_texts_cost(
    study: Study, combined: Any, tmp_path: Path
) -> None:
    chosen = min((p for p in study.points() if "tau" in p.knobs), key=lambda p: p.flops)
    study.emit(tmp_path / "out", max_flops=chosen.flops_ratio * 1.0001, max_drop=0.99)
    manifest = json.loads((tmp_path / "out" / "trimtab.json").read_text())
    found = trimtab.verify(tmp_path / "out", on=combined.folder / "starter" / "dev.tsv")
    assert found["flops_on"] == pytest.approx(manifest["point"]["flops"], rel=0.25)
    both = [manifest["point"]["metric"], manifest["certificate"]["metric"]]
    assert found["metric"] == pytest.approx(sum(both) / 2, abs=0.02)


def test_what_was_dropped_is_made_again_from_its_recipe(study: Study, combined: Any) -> None:
    folder = combined.folder / "copy"
    shutil.copytree(combined.folder, folder, ignore=shutil.ignore_patterns("copy", "runs"))
    db = f"sqlite:///{folder / 'trimtab.db'}"
    longest = max(study.frontier_points(), key=lambda p: len(p.recipe))
    with Reader.open_reader(db) as reader:
        for row in reader.artifacts():
            if row.kind != "baseline" and row.path is not None:
                shutil.rmtree(folder / "trimtab-artifacts" / row.path)
    again = trimtab.open_study("starter", db=db)
    emission = again.emit(
        folder / "out", max_flops=longest.flops_ratio * 1.0001, max_drop=longest.drop + 1e-6
    )
    assert emission.point.artifact_key == longest.artifact_key
    assert trimtab.load(folder / "out").config.knobs == longest.knobs


def test_records_behind_the_points_are_kept(study: Study, combined: Any) -> None:
    with Reader.open_reader(combined.db) as reader:
        rows = {row.key: row for row in reader.artifacts()}
    kept = [p for p in study.frontier_points() if "tau" in p.knobs]
    assert kept
    path = rows[kept[0].artifact_key].path
    assert path is not None
    records = Records.load(combined.folder / "trimtab-artifacts" / path / "records-search.npz")
    assert len(records.lengths) == kept[0].n
