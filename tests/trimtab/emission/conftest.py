"""Checkpoints of many shapes, written by the functions that write the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.controller import task_of
from trimtab.emission._folder import write_checkpoint
from trimtab.emission._manifest import MANIFEST, SELF, read_manifest, write_manifest
from trimtab_storage import ArtifactFiles
from trimtab_strategies.cost import LengthHistogram, mean_flops
from trimtab_strategies.elastic import Gates
from trimtab_strategies.slicing import ones_like_gates, shape_of, slice_model
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import Place, ReferenceJob, load_elastic
from trimtab_workers.jobs._place import save_elastic

RESIGNED = {"format", "files", SELF}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests here run models."""


@dataclass(frozen=True)
class Writer:
    """Writes checkpoints of the finished study's baseline under any gates."""

    study: trimtab.Study
    place: Place
    facts: dict[str, Any]

    def write(self, folder: Path, change: Callable[[Gates], None], key: str) -> Path:
        row = self.study.row()
        assert row.baseline is not None
        dense = load_elastic(self.place.files.path(row.baseline["artifact"]))
        gates = ones_like_gates(dense)
        change(gates)
        small = slice_model(dense, gates)
        self.place.files.save(key, lambda target: save_elastic(small, target))
        context = WorkerContext("cpu", lambda stage, done, total: None)
        reference = ReferenceJob(self.place, key).run(context)
        flops = mean_flops(shape_of(small.config), LengthHistogram(reference.lengths))
        point = replace(
            self.study.points()[0], artifact_key=key, flops=flops, params=small.num_parameters()
        )
        stored = {"input_ids": reference.input_ids, "logits": reference.logits}
        priced = {**self.facts["point"], "flops": flops, "params": point.params}
        folder.mkdir()
        facts = {**self.facts, "reference": stored, "point": priced}
        write_checkpoint(folder, self.place, row.baseline["artifact"], point, [point], facts)
        return folder


@pytest.fixture(scope="session")
def writer(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Writer:
    spec = trimtab.Spec.load(finished.spec)
    files = ArtifactFiles(finished.folder / "trimtab-artifacts", "tests")
    manifest = read_manifest(finished.checkpoint)
    facts = {name: value for name, value in manifest.items() if name not in RESIGNED}
    study = trimtab.open_study("starter", db=finished.db)
    return Writer(study, Place(task_of(spec), spec.model, files), facts)


def _no_heads(gates: Gates) -> None:
    gates.heads[0][:] = 0


def _no_filters(gates: Gates) -> None:
    gates.filters[1][:] = 0


def _empty_layer(gates: Gates) -> None:
    gates.heads[1][:], gates.filters[1][:] = 0, 0
    gates.heads[0][::2], gates.filters[0][::3] = 0, 0


@pytest.fixture(scope="session")
def odd_checkpoints(writer: Writer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints with a layer without heads, one without filters, and one without either."""
    parent = tmp_path_factory.mktemp("odd")
    changes = {"no-heads": _no_heads, "no-filters": _no_filters, "empty-layer": _empty_layer}
    return {
        name: writer.write(parent / name, change, f"0dd{number}")
        for number, (name, change) in enumerate(changes.items())
    }


@pytest.fixture
def resign() -> Callable[..., None]:
    """Signs a changed folder anew, as somebody would who wants the change to pass."""

    def sign(folder: Path, **changes: Any) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        facts = {name: value for name, value in content.items() if name not in RESIGNED}
        write_manifest(folder, {**facts, **changes})

    return sign
