"""A study whose model and rows come from the hub, with nothing but the hub's cache at hand."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

COMMIT = "0123abc" + "d" * 33


def put(cache: Path, kind: str, files: dict[str, bytes]) -> None:
    """Lays a repository `owner/KIND` out as the hub's client does."""
    place = cache / f"{kind}s--owner--{kind}"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    for number, (name, content) in enumerate(files.items()):
        (place / "blobs" / str(number)).write_bytes(content)
        link = place / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(link.relative_to(place).parent.parts)
        link.symlink_to(f"{up}blobs/{number}")


@pytest.fixture
def home(workspace: Any, tmp_path: Path) -> Path:
    """A home of the hub's cache with the starter's model and rows, and a spec that names them."""
    cache = tmp_path / "hub-home" / "hub"
    starter = workspace.folder / "starter"
    model = starter / "tiny-bert"
    put(cache, "model", {file.name: file.read_bytes() for file in model.iterdir()})
    rows = {}
    for name, part in (("train", "train"), ("dev", "test")):
        with (starter / f"{name}.tsv").open() as file:
            table = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        pandas.DataFrame(table).to_parquet(tmp_path / "rows.parquet")
        rows[f"data/{part}-00000-of-00001.parquet"] = (tmp_path / "rows.parquet").read_bytes()
    put(cache, "dataset", rows)
    text = workspace.spec.read_text()
    for pattern, new in (
        (r"model: \S+", f"model: owner/model@{COMMIT[:7]}"),
        (r"train: starter/train.tsv", "train: {dataset: owner/dataset, split: train}"),
        (r"validation: starter/dev.tsv", "validation: {dataset: owner/dataset, split: test}"),
        (r"trials: 2", "trials: 1"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1
    workspace.spec.write_text(text)
    return cache.parent


@pytest.mark.slow
def test_a_study_runs_on_what_the_cache_holds(
    home: Path, workspace: Any, shell: Callable[..., Any]
) -> None:
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    options = (workspace.spec, "--db", workspace.db, "--allow-hub", "--json")
    ran = shell("run", *options, cwd=workspace.folder, **offline)
    assert ran.code in (0, 3), ran.err
    verified = shell("verify", workspace.checkpoint, "--json", cwd=workspace.folder)
    assert verified.code == 0, verified.err
    manifest = json.loads((workspace.checkpoint / "trimtab.json").read_text())
    assert manifest["model"] == f"owner/model@{COMMIT[:7]}"
    again = shell(
        "emit", "--out", "again", "--db", workspace.db, cwd=workspace.folder, **offline
    )  # what was allowed once stays so
    assert again.code in (0, 3), again.err


def test_what_the_cache_lacks_or_leave_was_not_given_for_is_one_line(
    home: Path, workspace: Any, shell: Callable[..., Any]
) -> None:
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    options = (workspace.spec, "--db", workspace.db)
    ran = shell("run", *options, cwd=workspace.folder, **offline)
    assert (ran.code, ran.out) == (2, "")
    assert "if this is a hub id, pass --allow-hub" in ran.err
    for repository, message in (
        ("model", f"owner/model@{COMMIT[:7]}: the model is not in the cache"),
        ("dataset", "owner/dataset:train: the dataset is not in the cache"),
    ):
        place = home / "hub" / f"{repository}s--owner--{repository}"
        place.rename(place.with_name("away"))
        ran = shell("run", *options, "--allow-hub", cwd=workspace.folder, **offline)
        place.with_name("away").rename(place)
        assert (ran.code, ran.out) == (2, "")
        lines = [line for line in ran.err.splitlines() if message in line]
        assert len(lines) == 1 and "fetch it once with a network" in lines[0]
        assert "Traceback" not in ran.err
