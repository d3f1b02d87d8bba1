"""The table of parts, and predictions by it, on tiny saved models and made-up records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trimtab_strategies.elastic import TrimtabConfig
from trimtab_strategies.outcomes import Pricing
from trimtab_strategies.records import Records, records_file
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import Place, TableJob
from trimtab_workers.latency.predict import predict
from trimtab_workers.latency.saved import predict_saved
from trimtab_workers.latency.table import LatencyTable
from trimtab_workers.latency.workload import Workload


@pytest.fixture
def place(toy_task: Any, saved_models: Any, files: Any) -> Place:
    return Place(toy_task(), str(saved_models["bert"]), files)


def write_model(folder: Path, **changes: Any) -> TrimtabConfig:
    """Writes a configuration without weights: none are needed."""
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 16,
        "head_dim": 4,
        "heads_per_layer": [4, 4],
        "filters_per_layer": [32, 32],
        "max_position_embeddings": 40,
        "num_labels": 2,
    }
    config = TrimtabConfig(**(sizes | changes))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return config


def write_records(folder: Path, knobs: dict[str, Any], kept: int) -> Records:
    lengths = np.arange(10, 20)
    tokens = np.minimum(np.full((10, 2), kept), lengths[:, None])
    zeros = np.zeros(10, dtype=np.int64)
    records = Records(lengths, tokens, (), np.zeros((10, 0, 2)), np.zeros((10, 2)), zeros)
    records.save(folder / records_file(knobs))
    return records


def test_a_table_is_measured_and_models_are_predicted_from_their_files(
    place: Place, context: WorkerContext, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    write_model(tmp_path / "dense")
    rule = {"kind": "share", "shares": [0.5, 0.5]}
    pruned = write_model(tmp_path / "pruned", token_rule=rule, heads_per_layer=[2, 0])
    plain = write_records(tmp_path / "pruned", {}, 6)
    more = write_records(tmp_path / "pruned", {"alpha_sc": 1.2}, 8)

    workload = Workload(device="cpu", threads=1, lengths=(12, 24))
    told = json.loads(json.dumps(TableJob(place, "dense", workload).run(context)))
    table = LatencyTable.from_plain(told)
    assert (table.device, table.threads, table.batch_size) == ("cpu", 1, 1)
    assert (table.hidden_size, table.head_dim) == (16, 4)
    assert max(table.parts["few/none"].curves[-1].at) == table.padded(np.array(24))
    assert torch.get_num_threads() == threads

    settings = ({"alpha_sc": 1.2}, {}, {"alpha_sc": 0.9})
    answers = predict_saved(tmp_path / "pruned", table, workload, settings)
    pricing = Pricing.of(pruned.to_dict())
    expected = [
        predict(table, pricing, records, knobs, workload)
        for records, knobs in ((more, settings[0]), (plain, settings[1]))
    ]
    assert answers == [*expected, None], "nothing was recorded at the third scale"
    for other in ("dense", "gone"):  # without records; without anything
        assert predict_saved(tmp_path / other, table, workload, [{}]) == [None]
    assert 0 < expected[0]["p50"] <= expected[0]["p95"]


def test_without_lengths_a_table_goes_as_far_as_the_data(
    place: Place, context: WorkerContext, tmp_path: Path
) -> None:
    write_model(tmp_path / "dense")
    table = LatencyTable.from_plain(TableJob(place, "dense", Workload(threads=1)).run(context))
    longest = max(place.data(context).validation_lengths)
    assert max(table.parts["few/none"].curves[-1].at) == table.padded(np.array(longest))
    assert max(table.parts["few/ltp"].curves[-1].at) == longest
