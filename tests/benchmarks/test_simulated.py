"""The simulated cluster and its clock, on which a thousand workers are kept busy."""

from __future__ import annotations

import importlib
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab_workers.executors import Failure

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DONE, LOST = "done", Failure("crashed", "its worker was lost")


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_simulated")


def cluster_of(simulated: Any, monkeypatch: Any, n_workers: int, fates: dict[str, Any]) -> Any:
    """A cluster whose jobs are names, with a fate for each."""
    monkeypatch.setattr(simulated, "fate_of", lambda job, rng: fates[job])
    cluster = simulated.SimulatedCluster(simulated.Clock(), n_workers, seed=0)
    cluster._shop = SimpleNamespace(value_of=lambda job: DONE)
    return cluster


def heard(cluster: Any, until_s: float) -> list[tuple[int, Any]]:
    """What is told, by ticket, until about that much time has passed."""
    end, found = cluster._clock.now() + until_s, []
    while cluster._clock.now() < end:
        found += [
            (o.ticket, o.value or o.failure) for o in cluster.wait(end - cluster._clock.now())
        ]
        if not cluster._events:
            break
    return found


def test_jobs_end_in_the_order_of_time_and_free_their_workers(
    simulated: Any, monkeypatch: Any
) -> None:
    fates = {name: simulated.Fate(s, s, s) for name, s in {"a": 900, "b": 100, "c": 200}.items()}
    cluster = cluster_of(simulated, monkeypatch, 2, fates)
    tickets = {name: cluster.submit(name) for name in "abc"}
    began = time.monotonic()
    order = heard(cluster, 5000.0)
    assert order == [(tickets[name], DONE) for name in "bca"]
    assert time.monotonic() - began < 1
    # c had to wait for b's worker; all that was told is in the ledger.
    (_, b_ends), (c_begins, _) = cluster.busy[1:]
    assert c_begins == pytest.approx(b_ends, abs=0.5)
    assert cluster.told == ["b", "c", "a"]


def test_lost_worker_comes_back_later_and_its_result_later_still(
    simulated: Any, monkeypatch: Any
) -> None:
    fates = {"a": simulated.Fate(50, 80, 140, LOST, 600), "b": simulated.Fate(10, 10, 10)}
    cluster = cluster_of(simulated, monkeypatch, 1, fates)
    a, b = cluster.submit("a"), cluster.submit("b")
    assert heard(cluster, 5000.0) == [(a, LOST), (b, DONE), (a, DONE)]
    (a_begins, a_ends), (b_begins, _) = cluster.busy
    assert a_ends - a_begins == 50
    assert b_begins - a_begins == pytest.approx(140, abs=0.5)
    assert (cluster.told, cluster.n_late, cluster.n_failed) == (["b"], 1, 1)


def test_waiting_in_vain_skips_what_the_caller_would_have_waited(
    simulated: Any, monkeypatch: Any
) -> None:
    cluster = cluster_of(simulated, monkeypatch, 1, {"a": simulated.Fate(100, 100, 100)})
    cluster.submit("a")
    before = cluster._clock.now()
    assert cluster.wait(30.0) == []
    assert cluster._clock.now() - before == pytest.approx(30, abs=0.5)


def test_clock_counts_real_time_but_not_that_of_the_simulation(simulated: Any) -> None:
    clock = simulated.Clock()
    before = clock.now()
    time.sleep(0.02)
    assert clock.now() - before >= 0.02
    before = clock.now()
    with clock.stopped():
        time.sleep(0.3)
        clock.skip_to(clock.now() + 10)
        clock.skip_to(clock.now() - 5)
    assert clock.now() - before == pytest.approx(10, abs=0.2)
    assert simulated.ModuleTime(clock).monotonic() >= before
    assert simulated.ModuleTime(clock).time() == pytest.approx(time.time(), abs=1)


def test_busy_share_counts_only_what_lies_between(simulated: Any) -> None:
    spans = [(0.0, 10.0), (5.0, 30.0), (12.0, 14.0)]
    assert simulated.busy_share(spans, 8.0, 18.0, n_workers=2) == (2 + 10 + 2) / 20
    assert simulated.busy_share([], 0.0, 1.0, n_workers=3) == 0


def test_fates_are_drawn_at_the_declared_rates(simulated: Any) -> None:
    from trimtab_workers.jobs import StatisticsJob

    job = StatisticsJob(None, "aa", "bb", "fisher", ())  # type: ignore[arg-type]
    rng = random.Random(0)
    fates = [simulated.fate_of(job, rng) for _ in range(20_000)]
    lost = [fate for fate in fates if fate.failure and fate.heard_s > fate.busy_s]
    failed = [fate for fate in fates if fate.failure]
    share = simulated.LOSSES + simulated.CRASHES + simulated.ERRORS
    assert len(lost) / len(fates) == pytest.approx(simulated.LOSSES, rel=0.25)
    assert len(failed) / len(fates) == pytest.approx(share, rel=0.15)
    assert any(fate.late_s for fate in lost) and not all(fate.late_s for fate in lost)
    assert all(fate.back_s >= fate.busy_s and fate.heard_s >= fate.busy_s for fate in fates)
