"""Measuring: all parts are timed, in the model's own work, and models are left as they were."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_workers.latency import measuring
from trimtab_workers.latency._adding import request_ms
from trimtab_workers.latency._watch import Watch
from trimtab_workers.latency.measuring import measure_table
from trimtab_workers.latency.table import LatencyTable
from trimtab_workers.latency.workload import Workload

CPU = torch.device("cpu")


def config(**changes: Any) -> TrimtabConfig:
    sizes = {
        "vocab_size": 50,
        "hidden_size": 16,
        "head_dim": 4,
        "heads_per_layer": [4, 4],
        "filters_per_layer": [32, 32],
        "max_position_embeddings": 40,
        "num_labels": 2,
    }
    return TrimtabConfig(**(sizes | changes))


def ticking() -> Callable[[], float]:
    """A clock that goes on by a millisecond whenever it is read."""
    ticks = itertools.count()
    return lambda: next(ticks) / 1000


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_part_is_measured_at_every_width(batch_size: int) -> None:
    table = measure_table(config(), Workload(batch_size), 24, CPU, ticking())
    counts = ["few"] if batch_size <= 2 else ["few", "many"]
    cores = {f"{n}/{kind}" for n in counts for kind in ("none", "last", "ltp", "acc")}
    exits = {f"exit/{kind}/{read}" for kind in ("linear", "mlp") for read in ("first", "mean")}
    exits |= {"exit/linear/both", "exit/mlp/both", "exit/attention/first"}
    parts = {"front", "head", "leave", "attended", "fed", "asked/none", "asked/last"}
    assert set(table.parts) == cores | exits | parts
    assert table.parts["fed"].widths == (0, 2, 8, 16, 24, 32)
    assert table.parts["few/ltp"].widths == table.parts["few/acc"].widths == (1, 2, 3, 4)
    assert max(table.parts["few/none"].curves[-1].at) == table.padded(np.array(24))
    assert max(table.parts["few/ltp"].curves[-1].at) == 24
    assert LatencyTable.from_plain(json.loads(json.dumps(table.to_plain()))) == table


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_fused_attention_is_measured_at_the_lengths_that_it_is_asked_for(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "fused_step", lambda device: 16)
    table = measure_table(config(), Workload(batch_size), 21, CPU, ticking())
    assert table.step == 16
    asked = {int(n) for n in table.padded(np.arange(1, 22))}
    for name in ("few/none", "few/last", "many/none", "many/last"):
        for curve in table.parts[name].curves if name in table.parts else ():
            assert set(curve.at) <= asked and max(curve.at) == max(asked)


def test_the_dense_model_takes_what_it_was_measured_to_take() -> None:
    """By the ticking clock a pass takes a tick from mark to mark, whatever its request is."""
    dense, watch = config(), Watch(CPU, ticking())
    model = TrimtabForSequenceClassification(dense).eval()
    with watch.watched(model):
        passed = watch.passes(model, {"input_ids": torch.ones(1, 9, dtype=torch.long)})
    table = measure_table(dense, Workload(), 24, CPU, ticking())
    predicted = request_ms(table, [4, 4], [32, 32], np.array([[9]]))
    assert predicted[0] == pytest.approx(passed.total)
    assert table.calibration == pytest.approx(1.0, abs=0.05)


def test_a_watched_model_says_the_same_and_is_its_own_again() -> None:
    torch.manual_seed(0)
    model = TrimtabForSequenceClassification(config()).eval()
    inputs = {"input_ids": torch.randint(50, (3, 9))}
    with torch.inference_mode():
        before = model(**inputs).logits
    watch = Watch(CPU)
    with watch.watched(model):
        passed = watch.passes(model, inputs)
        with torch.inference_mode():
            assert torch.equal(model(**inputs).logits, before)
    assert passed.total > 0 and len(passed.layers) == 2
    assert set(passed.layers[0]) == {"asked", "core", "attended", "moved", "fed"}
    for layer in model.encoder_layers:
        assert not {"asked", "attended", "fed_forward"} & set(vars(layer))
        assert not layer.qkv._forward_hooks and not layer.qkv._forward_pre_hooks


@pytest.mark.parametrize(("skips", "longest"), [(False, 40), (True, 38)])
def test_a_table_is_not_measured_longer_than_a_model_can_read(skips: bool, longest: int) -> None:
    made = config(positions_skip_padding=skips, pad_token_id=1)
    table = measure_table(made, Workload(), 500, CPU, ticking())
    assert table.parts["few/none"].curves[-1].at[-1] == longest
