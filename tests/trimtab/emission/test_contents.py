"""What a checkpoint says of itself: everything that was measured, and nothing of the user's."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.controller._ladder import ladder
from trimtab.emission import read_manifest
from trimtab_strategies.cost import LengthHistogram, mean_flops
from trimtab_strategies.slicing import shape_of

FILES = {
    *("README.md", "config.json", "frontier.csv", "model.safetensors", "trimtab.json"),
    *("configuration_trimtab.py", "exits_trimtab.py", "layers_trimtab.py", "linear_trimtab.py"),
    "masked_trimtab.py",
    *("modeling_trimtab.py", "packed_trimtab.py", "plain_trimtab.py", "rows_trimtab.py"),
    *("tokens_trimtab.py", "trace_trimtab.py"),
    *("tokenizer.json", "tokenizer_config.json"),
}


@pytest.fixture
def manifest(finished: Any) -> dict[str, Any]:
    return read_manifest(finished.checkpoint)


@pytest.fixture
def card(finished: Any) -> str:
    return str((finished.checkpoint / "README.md").read_text())


def test_the_files_are_these(finished: Any) -> None:
    assert {file.name for file in finished.checkpoint.iterdir()} == FILES


def test_the_manifest_has_what_was_promised(manifest: dict[str, Any], finished: Any) -> None:
    study = trimtab.open_study("starter", db=finished.db)
    best, row = study.choose().point, study.row()
    assert manifest["recipe"] == best.recipe
    # The rung that it was made for: the lowest that its cost is within.
    rung = min(rung for rung in ladder(0.5) if best.flops_ratio <= rung)
    assert manifest["recipe"][0]["choices"]["constraint"] == pytest.approx(rung)
    assert manifest["knobs"] == {}
    for name in ("id", "metric", "drop", "flops", "flops_ratio", "params", "n", "split"):
        assert manifest["point"][name] == getattr(best, name)
    assert manifest["baseline"] == row.baseline
    assert manifest["seed"] == 0
    plain = json.dumps(row.spec, sort_keys=True).encode()
    assert manifest["spec_sha256"] == hashlib.sha256(plain).hexdigest()
    assert manifest["budget"] == {"flops": "50%"}
    assert (manifest["feasible"], manifest["meets_spec"]) == (True, True)
    assert manifest["certified"] is (manifest["certificate"]["drop"] <= 0.02)
    assert {"python", "torch", "transformers", "trimtab"} <= set(manifest["versions"])


def test_the_hashes_are_those_of_the_files(manifest: dict[str, Any], finished: Any) -> None:
    for name, facts in manifest["files"].items():
        content = (finished.checkpoint / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_the_reference_is_random_tokens_of_growing_length(manifest: dict[str, Any]) -> None:
    sequences = manifest["reference"]["input_ids"]
    assert [len(ids) for ids in sequences] == [4, 8, 12, 16, 20, 24, 28, 32]
    assert [len(logits) for logits in manifest["reference"]["logits"]] == [3] * 8
    # No sequence begins like a real one, with the mark that a tokenizer puts in front.
    assert len({ids[0] for ids in sequences}) > 1


def test_the_cost_follows_from_the_manifest(manifest: dict[str, Any], finished: Any) -> None:
    model = trimtab.load(finished.checkpoint)
    lengths = {int(length): count for length, count in manifest["workload"].items()}
    assert sum(lengths.values()) == 240
    flops = mean_flops(shape_of(model.config), LengthHistogram(lengths))
    assert flops == manifest["point"]["flops"] <= 0.5 * manifest["baseline"]["flops"]


def test_the_dial_has_the_operating_point(finished: Any, manifest: dict[str, Any]) -> None:
    content = (finished.checkpoint / "frontier.csv").read_text()
    assert "\r" not in content
    (row,) = csv.DictReader(content.splitlines())
    assert json.loads(row["knobs"]) == manifest["knobs"]
    for name in ("metric", "drop", "flops", "flops_ratio", "params"):
        assert float(row[name]) == manifest["point"][name]


def test_the_card_has_the_numbers(card: str, manifest: dict[str, Any]) -> None:
    point, baseline, certificate = (manifest[name] for name in ("point", "baseline", "certificate"))
    for text in (
        f"{point['flops_ratio']:.1%} of its FLOPs",
        f"{point['params']:,} parameters instead of {baseline['params']:,}",
        "It meets the limits that it was searched for.",
        "a budget of FLOPs 50% and a largest drop of 2 pt",
        f"| {baseline['metric']:.4f} | {point['metric']:.4f} | {100 * point['drop']:+.2f} pt |",
        f"| {certificate['baseline_metric']:.4f} | {certificate['metric']:.4f} |",
        f"| {baseline['flops']:,.0f} | {point['flops']:,.0f} |",
        "the baseline is the dense model, not padded",
        "measured 1 point(s) on the rows that decide nothing",
        "Seed 0; spec sha256 `" + manifest["spec_sha256"],
        f"torch {manifest['versions']['torch']}",
    ):
        assert text in card
    recipe = json.loads(card.split("```json\n")[1].split("```")[0])
    assert recipe == manifest["recipe"]


def test_the_card_begins_as_the_hub_wants_it(card: str) -> None:
    import yaml

    _, front, _ = card.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["library_name"] == "transformers"
    assert facts["pipeline_tag"] == "text-classification"


def test_the_code_in_the_card_is_true(card: str, checkpoint: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    scope: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(checkpoint)), scope)
    assert scope["model"].num_parameters() > 0


def test_no_private_path_is_in_any_file(finished: Any) -> None:
    """The model is a local folder here; strangers are told its name, not where it lies."""
    private = [str(finished.folder), str(Path.home()), "/tmp/", "/home/", "\\Users\\"]
    for file in finished.checkpoint.iterdir():
        content = file.read_bytes()
        found = [text for text in private if text.encode() in content]
        assert not found, f"{file.name} has {found}"
    assert "copy of `tiny-bert`" in (finished.checkpoint / "README.md").read_text()
    assert read_manifest(finished.checkpoint)["model"] == "tiny-bert"


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("/home/ann/secret/my-bert", "my-bert"),
        ("package:some_package/weights", "package:some_package/weights"),
        ("google/bert_uncased_L-2", "google/bert_uncased_L-2"),
    ],
)
def test_other_references_are_shown_as_they_are(model: str, shown: str) -> None:
    from trimtab.emission._emit import _shown

    assert _shown(model) == shown


def test_no_text_of_the_users_is_in_any_file(finished: Any) -> None:
    rows = [
        line.split("\t")[0]
        for name in ("train", "dev")
        for line in (finished.folder / "starter" / f"{name}.tsv").read_text().splitlines()[1:]
    ]
    contents = [file.read_bytes() for file in finished.checkpoint.iterdir()]
    pieces = {" ".join(row.split()[start : start + 4]) for row in rows for start in (0, 3)}
    assert len(pieces) > 100
    for piece in pieces:
        assert not any(piece.encode() in content for content in contents), piece


def test_private_leftovers_of_other_tools_do_not_get_in(workspace: Any) -> None:
    """Folders that went through older tools carry paths in their configurations."""
    from trimtab.controller import finetune_of, task_of
    from trimtab_storage import ArtifactFiles
    from trimtab_workers.executors import WorkerContext
    from trimtab_workers.jobs import BaselineJob, Place

    folder = workspace.folder / "starter" / "tiny-bert"
    for name, leftovers in {
        "config.json": {"_name_or_path": "/home/ann/secret"},
        "tokenizer_config.json": {
            "name_or_path": "/home/ann/secret",
            "special_tokens_map_file": "/home/ann/.cache/special_tokens_map.json",
            "tokenizer_file": "/home/ann/tokenizer.json",
        },
    }.items():
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **leftovers}))
    workspace.edit({"epochs: 10": "epochs: 1"})
    spec = trimtab.Spec.load(workspace.spec)
    files = ArtifactFiles(workspace.folder / "artifacts", "tests")
    job = BaselineJob(Place(task_of(spec), spec.model, files), "aaaa", finetune_of(spec))
    job.run(WorkerContext("cpu", lambda stage, done, total: None))
    for file in files.path("aaaa").iterdir():
        assert b"/home/ann" not in file.read_bytes(), file.name
