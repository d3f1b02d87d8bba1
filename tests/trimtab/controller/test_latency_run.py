"""A latency budget on a real tiny model: timed, predicted, delivered; how fast is not asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab._parts import parts_of
from trimtab.cli._show import delivered_plain
from trimtab.controller import _reference, _stopwatch, _timing
from trimtab.emission import _emit, _latency
from trimtab.study import Study
from trimtab_storage import Reader, Store, check_invariants
from trimtab_strategies.fisher.prices import Prices
from trimtab_workers.latency import _taking_turns
from trimtab_workers.latency.prices import BLOCK

pytestmark = pytest.mark.slow

STRATEGIES = """
    - fisher: {calibration: 256, cost: latency}
    - early_exit: {rows: 1024, epochs: 5, lr: 0.005}
"""
ANY_TIME = "latency: {mean: 20 s, threads: 1, batch_size: 2}"


@pytest.fixture(scope="module", autouse=True)
def in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """How fast models are is not asked here: nothing is timed for long, or again, or in turns."""
    turns = tmp_path_factory.mktemp("turns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_taking_turns, "turn_file", lambda device: turns / device)
        patch.setattr(_latency, "LIMIT_S", 0.5)
        patch.setattr(_latency, "MOST_TRIES", 1)
        patch.setattr(_reference, "LIMIT_S", 0.5)
        patch.setattr(_reference, "MOST_TRIES", 1)
        patch.setattr(_timing, "SECONDS_EACH", 0.5)
        patch.setattr(_stopwatch, "MOST_TURNS_AT_THE_END", 1)  # one round
        yield


@pytest.fixture(scope="module")
def delivered(workspace_in: Callable[[Path], Any], tmp_path_factory: Any) -> Any:
    made = workspace_in(tmp_path_factory.mktemp("timed"))
    made.edit(
        {
            r"\n    - fisher: \{calibration: \[256\]\}\n": STRATEGIES.rstrip(" "),
            "max_drop: 2 pt": "max_drop: 50 pt",
            "flops: 50%": ANY_TIME,
        }
    )
    trimtab.run(trimtab.Spec.load(made.spec), db=made.db)
    return made


@pytest.fixture(scope="module")
def study(delivered: Any) -> Study:
    return trimtab.open_study("starter", db=delivered.db)


def test_points_are_predicted_and_those_near_the_budget_timed(study: Study) -> None:
    row = study.row()
    assert row.baseline is not None and row.limits["max_latency_ms"] == 20_000
    dense = row.baseline["latency_ms"]
    assert (dense["statistic"], dense["batch_size"], dense["threads"]) == ("mean", 2, 1)
    assert 0 < dense["low"] <= dense["value"] <= dense["high"]
    made = [point for point in study.points() if point.recipe]
    for point in made:
        predicted = (point.latency or {})["predicted"]
        assert 0 < predicted["p50"] <= predicted["p95"]
    timed = [point for point in made if (point.latency or {}).get("value") is not None]
    assert 0 < len(timed) < len(made)
    with Reader.open_reader(study.db) as reader:
        assert check_invariants(reader, row.id) == []


def test_who_is_to_take_less_time_is_predicted_to(study: Study) -> None:
    """Not who has fewer FLOPs: where time counts, they go where they take least of it."""
    sliced = [p for p in study.points() if [s["strategy"] for s in p.recipe] == ["fisher"]]
    predicted = {
        p.recipe[0]["choices"]["constraint"]: (p.latency or {})["predicted"]["mean"]
        for p in sliced
        if p.recipe[0]["choices"]["cost"] == "latency"
    }
    assert len(predicted) >= 3
    assert predicted[min(predicted)] < predicted[max(predicted)]


def test_the_checkpoint_was_timed_as_it_lies_there(delivered: Any, study: Study) -> None:
    folder = delivered.checkpoint
    known = json.loads((folder / "trimtab.json").read_text())["delivered_latency"]
    assert known["max_ms"] == 20_000 and known["n_requests"] >= 20
    # On a machine with other work to do nothing can be told, and that is what is said.
    assert known["holds"] is (True if known["verdict"] == "stable" else None)
    assert "in a fresh process" in (folder / "README.md").read_text()
    report = trimtab.verify(folder)
    assert report is not None


def test_emitting_later_is_timed_too(study: Study, tmp_path: Path) -> None:
    emission = study.emit(tmp_path / "out")
    said = delivered_plain(emission.latency)
    assert said is not None and said["max_ms"] == 20_000 and said["value"] > 0
    known = json.loads((tmp_path / "out" / "trimtab.json").read_text())["delivered_latency"]
    assert known["statistic"] == "mean" and known["value"] > 0


def test_what_counts_in_time_says_what_units_cost_and_is_made_again_from_that(
    study: Study, tmp_path: Path
) -> None:
    steps = [step["choices"] for p in study.points() for step in p.recipe[:1]]
    timed = [choices for choices in steps if choices.get("cost") == "latency"]
    assert timed
    (prices,) = {choices["prices"] for choices in timed}
    assert Prices.parse(prices).block == BLOCK
    best = study.emit(tmp_path / "before").point
    with Store.open(study.db) as store:
        store.drop_files(store.artifact_files("test"), best.artifact_key)
    assert study.emit(tmp_path / "after").point == best, "made again, and found to be the same"


SEVERAL = """latency:
    - {p50: 20 s, p95: 100%, threads: 1, batch_size: 2}
    - {throughput: 1/s, threads: 1, batch_size: 8}"""


def test_several_limits_that_come_later_are_timed_predicted_and_delivered(
    finished_copy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That what is written verifies is seen above, and takes a process of its own.
    monkeypatch.setattr(_emit, "verify_in_fresh_process", lambda folder: None)
    made = finished_copy
    made.edit({"flops: 50%": SEVERAL, "max_drop: 2 pt": "max_drop: 50 pt"})
    trimtab.run(trimtab.Spec.load(made.spec), db=made.db)
    study = trimtab.open_study("starter", db=made.db)
    row = study.row()
    assert row.baseline is not None
    dense = parts_of(row.baseline["latency_ms"])
    asked = [("p50", 2), ("p95", 2), ("mean", 8)]
    assert [(part["statistic"], part["batch_size"]) for part in dense] == asked
    assert study.limits().latencies_ms == (20_000, dense[1]["value"], 8_000)
    # Of models whose files are gone nothing is predicted; one that may be delivered is made again
    # and timed.
    every = [p.latency for p in study.points() if p.recipe and p.latency is not None]
    known_of = [latency for latency in every if parts_of(latency)[0]["predicted"] is not None]
    assert known_of and all(latency["value"] for latency in every if latency not in known_of)
    for latency in known_of:
        few, same, many = parts_of(latency)
        assert few["predicted"] == same["predicted"]
        assert few["predicted"]["p50"] > 0 and many["predicted"]["p50"] > 0
    known = json.loads((made.checkpoint / "trimtab.json").read_text())["delivered_latency"]
    parts = parts_of(known)
    assert [(part["statistic"], part["batch_size"]) for part in parts] == asked
    assert [part["max_ms"] for part in parts] == list(study.limits().latencies_ms)
    assert all(part["n_requests"] >= 20 and part["value"] > 0 for part in parts)
    # On a machine with other work to do nothing can be told, and that is what is said.
    told = [part["holds"] for part in parts[1:]] + [known["verdict"] == "stable" or None]
    assert known["holds"] is (False if False in told else None if None in told else True)
    assert "The same at batch 8 on cpu, 1 thread" in (made.checkpoint / "README.md").read_text()
    with Reader.open_reader(study.db) as reader:
        assert check_invariants(reader, row.id) == []
