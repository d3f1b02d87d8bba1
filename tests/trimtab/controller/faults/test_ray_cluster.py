"""A study on a cluster that somebody else keeps: nodes, its head and the controller are lost."""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRIALS = 5


def _module() -> Any:
    path = Path(__file__).parents[3] / "trimtab_workers" / "executors" / "ray_cluster.py"
    spec = importlib.util.spec_from_file_location("ray_cluster", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["ray_cluster"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cluster(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose workers write the lab's log, and the study's spec for it."""
    plug_in = {
        "PYTHONPATH": str(lab.files / "plug-in"),
        "FAULT_LOG": str(lab.folder / "log"),
        "FAULT_PAUSE_S": "0.25",
    }
    with _module().RayCluster(RAY_health_check_period_ms="500", **plug_in) as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        # Half of it is how long a run waits for a head.
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "16")
        address = {"workers__address": started.address, "workers__executor": "ray"}
        lab.write_spec(**address, workers__count=2, search__trials=TRIALS)
        yield started


def busy(node: Any) -> Callable[[list[Any]], bool]:
    """Tells whether a worker of a node is in a job, as of the log."""

    def holds(lines: list[Any]) -> bool:
        last = {line.pid: line.event for line in lines if line.event in ("start", "end")}
        return any(last.get(member.pid) == "start" for member in node.raylet.children())

    return holds


def assert_complete(lab: Any, n_attempts: int) -> None:
    study, trials = lab.study(), lab.trials()
    assert (study.state, study.lease_owner) == ("finished", None)
    assert [trial.state for trial in trials] == ["complete"] * TRIALS
    assert sum(trial.attempts for trial in trials) <= n_attempts
    assert lab.problems() == []
    assert (lab.folder / "runs" / "checkpoint" / "trimtab.json").is_file()


def test_a_killed_node_costs_a_study_one_attempt(
    lab: Any, acknowledged: Any, cluster: Any, rng: random.Random
) -> None:
    nodes = [cluster.add(1), cluster.add(1)]
    process = lab.start()
    victim = rng.choice(nodes)
    lab.wait_for(lambda lines: sum(line.event == "ack" for line in lines) >= 2)
    acknowledged.note()
    lab.wait_for(busy(victim))
    cluster.kill_node(victim)
    cluster.add(1)
    assert process.wait(300) == 0, lab.said()
    acknowledged.note()
    acknowledged.check()
    # Another that waits for the same statistics loses none.
    assert_complete(lab, TRIALS + 1)


def test_a_head_that_comes_back_costs_a_study_nothing(
    lab: Any, acknowledged: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its models lie in a place to which the workers upload them."""
    monkeypatch.setenv("TRIMTAB_ARTIFACTS", f"file://{lab.folder}/place")
    # On a slow machine a new head may need longer than the others here wait for one.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "60")
    cluster.add(2)
    process = lab.start()
    lab.wait_for(lambda lines: sum(line.event == "ack" for line in lines) >= 1)
    acknowledged.note()
    cluster.kill_head()
    time.sleep(1)  # so that it is missed
    assert process.poll() is None, "the study was over before"
    cluster.start_head()
    assert process.wait(300) == 0, lab.said()
    acknowledged.note()
    acknowledged.check()
    assert_complete(lab, TRIALS)
    assert (lab.folder / "place").is_dir() and not (lab.folder / "trimtab-artifacts").exists()


def test_a_lost_cluster_and_a_killed_controller_are_survived(
    lab: Any, acknowledged: Any, cluster: Any
) -> None:
    cluster.add(2)
    process = lab.start()
    lab.wait_for(lambda lines: sum(line.event == "ack" for line in lines) >= 1)
    cluster.lose_all()
    assert process.wait(300) == 1
    assert "does not answer any more; start again when it is back" in lab.said()
    acknowledged.note()
    assert lab.study().state == "interrupted" and lab.study().lease_owner is None

    cluster.start_anew()
    node = cluster.add(2)
    seen = len(lab.log())
    process = lab.start()
    lab.wait_for(lambda lines: any(line.event == "start" for line in lines), seen)
    workers = [each for each in node.raylet.children() if each.name().startswith("ray::Worker")]
    process.kill()
    process.wait()
    acknowledged.note()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers and not alive, "workers of a cluster outlived their controller"

    assert lab.run() == 0, lab.said()
    acknowledged.check()
    # Neither loss is the fault of any trial.
    assert_complete(lab, TRIALS)
