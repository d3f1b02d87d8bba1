"""Emitting from a finished study: what is chosen, certified, written, and what is left alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.emission import _emit, read_manifest
from trimtab.errors import (
    InputError,
    NothingFinishedError,
    StudyChangedError,
    TrimtabError,
)
from trimtab.selection import Limits, choose
from trimtab.spec import UnitError
from trimtab_storage import NewPoint, Reader, Store, StudyRow


@pytest.fixture
def study(finished_copy: Any) -> trimtab.Study:
    return trimtab.open_study("starter", db=finished_copy.db)


def certified(study: trimtab.Study) -> list[Any]:
    with Reader.open_reader(study.db) as reader:
        return reader.points(study.row().id, split="certify")


def test_a_run_certified_its_best_point_and_the_baseline(study: trimtab.Study) -> None:
    baseline = study.row().baseline
    assert baseline is not None
    best = study.choose().point
    assert [row.artifact_key for row in certified(study)] == [
        baseline["artifact"],
        best.artifact_key,
    ]
    assert all(row.split == "certify" and row.n == 120 for row in certified(study))


def test_certified_rows_are_never_chosen_from(study: trimtab.Study, verify_here: None) -> None:
    before = [point.id for point in study.points()]
    with Reader.open_reader(study.db) as reader:
        frontier = [point.id for point in reader.frontier(study.row().id)]
    assert not {row.id for row in certified(study)} & {*before, *frontier}


def test_the_same_point_is_certified_once(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    rows = certified(study)
    for name in ("one", "two"):
        study.emit(tmp_path / name)
    assert certified(study) == rows
    assert read_manifest(tmp_path / "two")["certificate"]["points_certified_so_far"] == 1


def test_another_budget_certifies_another_point_and_counts_it(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    rows = certified(study)
    emission = study.emit(tmp_path / "out", max_flops=0.35)
    assert emission.point.flops_ratio <= 0.35
    assert certified(study)[:-1] == rows
    added = certified(study)[-1]
    assert added.artifact_key == emission.point.artifact_key
    manifest = read_manifest(tmp_path / "out")
    assert manifest["certificate"]["points_certified_so_far"] == 2
    assert manifest["certificate"]["drop"] == added.drop
    assert manifest["point"]["split"] == "search"
    assert trimtab.load(tmp_path / "out").num_parameters() == emission.point.params


def test_dropped_weights_are_made_again(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    """A dominated point's weights were dropped during the search; its recipe was kept."""
    with Store.open(study.db) as store:
        best = study.choose().point
        row = store.artifact(best.artifact_key)
        assert row is not None and row.path is not None
        store.forget_file(best.artifact_key)
        shutil.rmtree(store.artifact_root / row.path)
    study.emit(tmp_path / "out")
    first, again = (
        (folder / "model.safetensors").read_bytes()
        for folder in (Path(study.row().spec["output"]) / "checkpoint", tmp_path / "out")
    )
    assert first == again


def test_weights_that_somebody_changed_are_made_again_and_not_opened(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    with Store.open(study.db) as store:
        row = store.artifact(study.choose().point.artifact_key)
        assert row is not None and row.path is not None
        weights = store.artifact_root / row.path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    study.emit(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == whole == weights.read_bytes()


@pytest.mark.parametrize("what", ["data", "model"])
def test_changed_data_or_model_is_refused_before_anything_is_stored(
    study: trimtab.Study, tmp_path: Path, what: str
) -> None:
    row = study.row()
    other = replace(row, fingerprint={**row.fingerprint, what: "0" * 64})
    rows, choice = certified(study), study.choose(Limits(max_flops_ratio=0.35))
    with Store.open(study.db) as store, pytest.raises(StudyChangedError, match=what) as caught:
        _emit_of(store, other, choice, Limits(), tmp_path / "out")
    assert caught.value.exit_code == 2
    assert certified(study) == rows
    assert not (tmp_path / "out").exists()


def test_nothing_is_certified_unless_the_checkpoint_verified(
    study: trimtab.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise TrimtabError("did not verify")

    rows = certified(study)
    monkeypatch.setattr(_emit, "verify_in_fresh_process", fail)
    with pytest.raises(TrimtabError, match="did not verify"):
        study.emit(tmp_path / "out", max_flops=0.35)
    assert certified(study) == rows


def test_a_certify_row_of_other_rows_is_measured_again(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    point = study.choose(Limits(max_flops_ratio=0.35)).point
    names = (field.name for field in fields(NewPoint))
    stale = {name: getattr(point, name) for name in names}
    with Store.open(study.db) as store:
        wrong = NewPoint(**{**stale, "split": "certify", "n": 7, "metric": 0.123})
        store.add_certified_point(study.row().id, wrong)
    study.emit(tmp_path / "out", max_flops=0.35)
    certificate = read_manifest(tmp_path / "out")["certificate"]
    assert certificate["n"] == 120
    assert certificate["metric"] != 0.123
    assert certificate["points_certified_so_far"] == 2


def test_the_baseline_itself_can_be_emitted(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    row = study.row()
    assert row.baseline is not None
    dense = [point for point in study.points() if point.recipe == []]
    _emission_for(study, choose(dense, Limits()), Limits(), tmp_path / "out")
    assert trimtab.verify(tmp_path / "out")["params"] == row.baseline["params"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "(100.0% of its FLOPs" in card
    assert "Recipe: `dense`" in card
    # It is what others are measured against, so it is no look at the rows that decide nothing.
    assert read_manifest(tmp_path / "out")["certificate"]["points_certified_so_far"] == 1


def test_infeasible_limits_give_the_closest_point_and_say_so(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    emission = study.emit(tmp_path / "out", max_flops=0.05, max_drop="50 pt")
    cheapest = min(study.points(), key=lambda point: point.flops)
    assert emission.point.flops == cheapest.flops
    manifest = read_manifest(tmp_path / "out")
    assert manifest["feasible"] is False
    (relaxation,) = manifest["relaxations"]
    assert relaxation.startswith("raise flops from 5% to ")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Nothing that was measured meets the limits; this is the closest point" in card
    assert relaxation in card


def test_a_drop_over_the_limit_on_unseen_rows_is_said(
    study: trimtab.Study, verify_here: None, tmp_path: Path
) -> None:
    """The certify rows decide nothing, so a miss there changes a flag and no choice."""
    drop = certified(study)[-1].drop
    choice = study.choose()
    emission = _emission_for(study, choice, Limits(max_drop=drop - 0.001), tmp_path / "miss")
    assert emission.point == choice.point
    manifest = read_manifest(tmp_path / "miss")
    assert manifest["certified"] is False
    assert "**over the allowed drop**" in (tmp_path / "miss" / "README.md").read_text()


def _emission_for(study: trimtab.Study, choice: Any, limits: Limits, out: Path) -> Any:
    with Store.open(study.db) as store:
        return _emit_of(store, study.row(), choice, limits, out)


def _emit_of(store: Store, row: StudyRow, choice: Any, limits: Limits, out: Path) -> Any:
    from trimtab.controller import SilentReporter
    from trimtab.controller._emit import emit_of_study

    return emit_of_study(store, row, choice, limits, out, False, SilentReporter())


def test_limits_are_read_like_options(study: trimtab.Study, tmp_path: Path) -> None:
    for limits in ({"max_drop": 5}, {"max_flops": 2}, {"max_flops": "lots"}, {"max_latency": -1}):
        with pytest.raises(UnitError, match=f"^{next(iter(limits))} "):
            study.emit(tmp_path / "out", **limits)  # type: ignore[arg-type]
        with pytest.raises(UnitError):
            study.frontier(**limits)  # type: ignore[arg-type]


def test_without_points_there_is_nothing_to_emit(tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/new.db"
    with Store.open(db) as store:
        store.create_study("new", {}, {}, {})
    with pytest.raises(NothingFinishedError, match="no measured points yet"):
        trimtab.open_study("new", db=db).emit(tmp_path / "out")


def test_an_existing_folder_is_refused_before_anything_is_measured(
    study: trimtab.Study, checkpoint: Path
) -> None:
    rows = certified(study)
    with pytest.raises(InputError, match="exists already"):
        study.emit(checkpoint, max_flops=0.35)
    with pytest.raises(InputError, match="cannot be written to"):
        study.emit("/proc/out", max_flops=0.35)
    assert certified(study) == rows


def test_force_replaces_a_checkpoint(
    study: trimtab.Study, verify_here: None, checkpoint: Path
) -> None:
    before = read_manifest(checkpoint)["point"]["id"]
    emission = study.emit(checkpoint, max_flops=0.35, force=True)
    assert read_manifest(checkpoint)["point"]["id"] == emission.point.id != before


def test_a_link_is_followed(
    study: trimtab.Study, verify_here: None, checkpoint: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkpoint)
    study.emit(link, max_flops=0.35, force=True)
    assert link.is_symlink()
    assert not checkpoint.is_symlink()
    trimtab.load(link)
    assert not list(tmp_path.glob(".*"))


def test_an_old_checkpoint_survives_one_that_does_not_verify(
    study: trimtab.Study,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fresh process is real here, and finds out by itself."""
    original = _emit.write_checkpoint

    def damage(folder: Path, *arguments: Any) -> None:
        original(folder, *arguments)
        with (folder / "model.safetensors").open("r+b") as stream:
            stream.seek(-1, 2)
            stream.write(b"\x7f")

    monkeypatch.setattr(_emit, "write_checkpoint", damage)
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    with pytest.raises(TrimtabError, match="did not verify in a fresh process.*safetensors is not"):
        study.emit(checkpoint, force=True)
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(TrimtabError, match="did not verify"):
        study.emit(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_module_of_the_users_is_not_taken_for_ours(
    study: trimtab.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("trimtab", "torch", "random", "typer"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not the module you want')")
    monkeypatch.chdir(tmp_path)
    study.emit("out")
    assert (tmp_path / "out" / "trimtab.json").is_file()


def test_it_goes_where_the_working_directory_is(
    study: trimtab.Study, verify_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    emission = study.emit("-out")
    assert emission.path == Path("-out")
    assert (tmp_path / "here" / "-out" / "trimtab.json").is_file()


def test_the_commands_say_what_was_written(
    finished_copy: Any, command: Callable[..., Any], verify_here: None, tmp_path: Path
) -> None:
    ran = command("emit", "--out", tmp_path / "out", "--db", finished_copy.db, "--json")
    assert ran.code == 0
    said = json.loads(ran.out)
    assert list(said) == [
        *("checkpoint", "feasible", "relaxations", "point", "certified", "certificate"),
        "delivered_latency",
    ]
    assert said["checkpoint"] == str(tmp_path / "out")
    assert (said["feasible"], said["relaxations"]) == (True, [])
    assert isinstance(said["certified"], bool)
    assert "storing logits" in ran.err

    arguments = ("--max-flops", "1%", "--out", tmp_path / "least", "--db", finished_copy.db)
    ran = command("emit", *arguments)
    assert ran.code == 3
    lines = ran.out.splitlines()
    assert lines[0].startswith("nothing meets the limits; closest: point ")
    assert lines[1].startswith("  it would be enough to raise flops from 1% to ")
    assert lines[-1] == f"checkpoint: {tmp_path / 'least'}"
    assert command("verify", tmp_path / "least").code == 0
