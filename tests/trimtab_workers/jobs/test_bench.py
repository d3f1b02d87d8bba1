"""Timing saved models for real: tiny ones, here and in a fresh process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import BenchJob, Candidate, Place, _bench
from trimtab_workers.jobs._bench import at_knobs, load_to_serve
from trimtab_workers.jobs._place import save_elastic
from trimtab_workers.latency.bench import BenchResult, BenchSettings, settings_of, usable_cpus
from trimtab_workers.latency.process import BenchError, measure_in_fresh_process
from trimtab_workers.latency.requests import requests_of
from trimtab_workers.latency.workload import Workload
from trimtab_workers.sources import load_stock_model

CPU = torch.device("cpu")
RULE = {"kind": "share", "shares": [0.8, 0.8]}


@pytest.fixture
def place(make_model: Any, toy_task: Any, tmp_path: Path, saved_models: Any, files: Any) -> Place:
    dense = to_elastic(load_stock_model(make_model(), num_labels=2))
    save_elastic(dense, tmp_path / "dense")
    config = TrimtabConfig.from_dict({**dense.config.to_dict(), "token_rule": RULE})
    pruned = TrimtabForSequenceClassification(config)
    pruned.load_state_dict(dense.state_dict(), strict=False)
    save_elastic(pruned, tmp_path / "pruned")
    return Place(toy_task(), str(saved_models["bert"]), files)


@pytest.fixture
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def context(told: list[tuple[str, int, int]]) -> WorkerContext:
    return WorkerContext("cpu", lambda *report: told.append(report))


def test_candidates_are_timed_in_order_beside_the_baseline(
    place: Place, context: WorkerContext, told: list[tuple[str, int, int]]
) -> None:
    candidates = (Candidate("dense", {}), Candidate("pruned", {"alpha_sc": 0.5}))
    workload = Workload(batch_size=2, threads=1)
    job = BenchJob(place, "dense", candidates, workload, "p50", limit_s=0.2, n_requests=24)
    results = job.run(context)
    assert len(results) == 2
    for result in results:
        latency, samples = result.latency, result.samples
        assert (latency.statistic, latency.batch_size, latency.device) == ("p50", 2, "cpu")
        assert latency.threads == 1 and latency.n_requests >= 20 and latency.n_rounds >= 3
        assert 0 < latency.low <= latency.value <= latency.high
        assert len(samples["ours"]) == len(samples["baseline"]) == latency.n_requests
        assert len(samples["ours"][0]) >= latency.n_rounds
        assert BenchResult.from_plain(json.loads(json.dumps(result.to_plain()))) == result
    assert results[0].samples["baseline"] == results[1].samples["baseline"]
    assert ("timing", 0, 1) in told


def test_times_and_ratios_of_one_timing_are_both_told(place: Place, context: WorkerContext) -> None:
    workload = Workload(batch_size=2, threads=1)
    job = BenchJob(
        *(place, "dense", (Candidate("pruned", {"alpha_sc": 0.5}),), workload, "p50", 3.0),
        limit_s=0.2,
        n_requests=24,
        also=("mean",),
        is_both=True,
    )
    (result,) = job.run(context)
    assert result.ratio is not None and result.ratio.speed == 1.0 != result.latency.speed
    assert result.ratio.ratio == pytest.approx(result.latency.ratio)
    assert result.latency.baseline == pytest.approx(3.0)
    assert BenchResult.from_plain(json.loads(json.dumps(result.to_plain()))) == result


def test_models_run_as_they_will_be_served_each_at_its_own_knobs(
    place: Place, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def bench(baseline: Any, models: Any, requests: Any, settings: Any, on_round: Any) -> list[Any]:
        batch = requests.tensors(CPU)[0]
        for model in (baseline, *models, *reversed(models)):
            model(**batch)
            owner = model if model is baseline else model.__closure__[0].cell_contents
            seen.setdefault("knobs", []).append(owner.config.knobs)
            assert not owner.training
        seen.update(settings=settings, n=len(requests))
        return []

    monkeypatch.setattr(_bench, "bench", bench)
    knobs: list[dict[str, Any]] = [{"alpha_sc": 0.5}, {"alpha_sc": 0.9}]
    candidates = tuple(Candidate("pruned", each) for each in knobs)
    BenchJob(place, "dense", candidates, Workload(3), "p95", 2.5, False, 7.0, 10).run(context)
    assert seen["knobs"] == [{}, *knobs, *reversed(knobs)]
    assert seen["settings"] == BenchSettings("p95", "cpu", None, 2.5, False, 7.0)
    assert seen["n"] == 10


def test_knobs_change_what_a_model_says(place: Place, context: WorkerContext) -> None:
    model = load_to_serve(place.files.path("pruned"), CPU)
    (batch,) = requests_of(place, context, Workload(16), 1).tensors(CPU)
    with torch.inference_mode():
        few, all_ = (at_knobs(model, {"alpha_sc": a})(**batch).logits for a in (0.2, 1.0))
    assert not torch.allclose(few, all_)


def test_the_worker_says_what_auto_is() -> None:
    assert settings_of(Workload(), "p50", "cuda:0", limit_s=1.0).device == "cuda:0"
    here = settings_of(Workload(device="cpu"), "p50", "cuda:0", limit_s=1.0)
    assert here.device == "cpu"
    assert usable_cpus() >= 1


def test_requests_are_search_rows_and_the_same_each_time(
    place: Place, context: WorkerContext
) -> None:
    one, other = (requests_of(place, context, Workload(3), 20) for _ in range(2))
    assert len(one) == 20 and one.texts.tokens.tolist() == other.texts.tokens.tolist()
    search = place.data(context).search
    known = {tuple(search.select([i]).tokens) for i in range(len(search))}
    assert {tuple(one.texts.select([i]).tokens) for i in range(60)} <= known


@pytest.mark.slow
def test_a_fresh_process_gives_a_latency(place: Place, context: WorkerContext) -> None:
    requests = requests_of(place, context, Workload(2), 24)
    folders = place.files.path("pruned"), place.files.path("dense")
    settings = BenchSettings("mean", "cpu", 1, limit_s=0.2)
    result = measure_in_fresh_process(*folders, requests, settings)
    assert result.latency.statistic == "mean" and result.latency.batch_size == 2
    assert result.latency.value > 0 and len(result.samples["ours"]) == result.latency.n_requests


@pytest.mark.slow
def test_a_fresh_process_says_why_it_could_not(place: Place, context: WorkerContext) -> None:
    (place.files.path("pruned") / "model.safetensors").unlink()
    folders = place.files.path("pruned"), place.files.path("dense")
    requests = requests_of(place, context, Workload(2), 24)
    with pytest.raises(BenchError, match=re.escape(str(folders[0]))) as caught:
        measure_in_fresh_process(*folders, requests, BenchSettings("mean", "cpu", 1, limit_s=0.2))
    assert "\n" not in str(caught.value) and "could not be timed" in str(caught.value)
