"""The JSON that every command prints, to the last key, because programs read it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import trimtab
from trimtab.spec import Duration
from trimtab_storage import Store

POINT = [
    *("id", "recipe", "knobs", "metric", "drop", "flops", "flops_ratio", "params", "latency_ms"),
    *("n", "split", "feasible"),
]
LATENCY = {
    "statistic": "p95",
    "value": 8.0,
    "low": 7.5,
    "high": 8.5,
    "p50": 7.0,
    "p95": 8.0,
    "batch_size": 1,
    "device": "cpu",
    "verdict": "stable",
}


@pytest.fixture
def read(command: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a command with ``--json`` and reads what it printed."""

    def run(*arguments: object, code: int = 0) -> Any:
        ran = command(*arguments, "--json")
        assert ran.code == code, ran.err
        return json.loads(ran.out)

    return run


def test_status(searched: str, read: Callable[..., Any]) -> None:
    said = read("status", "--db", searched)
    assert list(said) == [
        *("study", "state", "trials", "best", "baseline", "elapsed_s", "remaining_s"),
        "hypervolume",
    ]
    assert (said["study"], said["state"]) == ("reviews", "finished")
    assert said["trials"] == {"waiting": 0, "running": 0, "complete": 2, "failed": 1}
    assert list(said["best"]) == POINT
    assert (said["best"]["flops_ratio"], said["best"]["feasible"]) == (0.4, True)
    assert said["baseline"]["metric"] == 0.9
    assert (said["elapsed_s"], said["remaining_s"]) == (61.5, None)
    # Two steps up to a drop of 12 points (ten more than allowed) and the dense model's cost.
    area = 0.1 * 0.07 + 0.2 * 0.11 + 0.4 * 0.118
    assert said["hypervolume"] == pytest.approx(area / 0.12)


def test_status_of_a_study_that_runs(searching: str, read: Callable[..., Any]) -> None:
    said = read("status", "--db", searching)
    assert said["state"] == "running"
    assert said["trials"] == {"waiting": 1, "running": 1, "complete": 1, "failed": 0}
    assert said["remaining_s"] == 30 * 60 - 61.5


def test_status_of_a_study_whose_controller_is_gone(
    add_study: Callable[..., str], read: Callable[..., Any]
) -> None:
    assert read("status", "--db", add_study("lost"))["state"] == "interrupted"


def test_status_of_a_study_whose_controller_was_killed(
    held_by: Callable[[str], str], read: Callable[..., Any]
) -> None:
    """Its lease is good for a while yet, but on this host one can see that nobody has it."""
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started_s = psutil.Process(killed.pid).create_time() - psutil.boot_time()
    db = held_by(f"{socket.gethostname()}/{killed.pid}@{started_s:.2f}")
    assert read("status", "--db", db)["state"] == "running"
    with sqlite3.connect(db.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE study SET lease_expires = 1")
    assert read("status", "--db", db)["state"] == "running", "who is there renews it when it can"
    killed.kill()
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert read("status", "--db", db)["state"] == "interrupted", "not waited for by its parent"
    killed.communicate()
    assert read("status", "--db", db)["state"] == "interrupted"


def test_another_process_of_the_same_number_is_not_the_controller(
    held_by: Callable[[str], str], read: Callable[..., Any]
) -> None:
    db = held_by(f"{socket.gethostname()}/{os.getpid()}@0.01")
    assert read("status", "--db", db)["state"] == "interrupted"


def test_of_other_hosts_only_the_lease_tells(
    held_by: Callable[[str], str], read: Callable[..., Any]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    db = held_by(f"another-host/{ended.pid}@1.00")
    assert read("status", "--db", db)["state"] == "running"


def test_status_before_anything_is_measured(
    add_study: Callable[..., str], read: Callable[..., Any]
) -> None:
    said = read("status", "--db", add_study("new", measured=False))
    assert (said["state"], said["best"], said["baseline"]) == ("new", None, None)
    assert said["hypervolume"] is None
    assert said["remaining_s"] == 30 * 60


@pytest.mark.parametrize("time", ["500 ms", "90 s", "1.5 min", "30 min", "2 h", "0.25 h", "0 s"])
def test_time_left_is_read_as_specs_write_it(
    time: str, add_study: Callable[..., str], read: Callable[..., Any]
) -> None:
    seconds = Duration.parse(time).seconds
    db = add_study("new", time=str(Duration.parse(time)), measured=False)
    assert read("status", "--db", db)["remaining_s"] == seconds


def test_trials(searched: str, read: Callable[..., Any]) -> None:
    said = read("trials", "--db", searched)
    assert list(said) == ["study", "trials"]
    keys = ["number", "recipe", "state", "reason", "attempts", "seconds", "reused", "points"]
    assert [list(trial) for trial in said["trials"]] == [keys] * 3
    first, second, failed = said["trials"]
    assert (first["number"], first["state"], first["reason"]) == (0, "complete", None)
    assert (first["attempts"], first["seconds"], first["reused"]) == (1, 12.5, 1)
    assert first["recipe"] == [{"strategy": "fisher", "choices": {"calibration": 512, "number": 0}}]
    assert [first["points"], second["points"], failed["points"]] == [[2, 3], [4, 5], []]
    assert failed["reason"].startswith("error: [red]\x1b[31mboom")


def test_failed_trials_only(searched: str, read: Callable[..., Any]) -> None:
    said = read("trials", "reviews", "--failed", "--db", searched)
    assert [trial["number"] for trial in said["trials"]] == [2]


def test_frontier(searched: str, read: Callable[..., Any]) -> None:
    said = read("frontier", "--db", searched)
    assert list(said) == ["study", "cost", "baseline", "points"]
    assert (said["study"], said["cost"]) == ("reviews", "flops")
    assert said["baseline"] == {
        "metric": 0.9,
        "flops": 1e9,
        "params": 1_000_000,
        "latency_ms": None,
    }
    assert [list(point) for point in said["points"]] == [POINT] * 4
    assert [(p["flops_ratio"], p["feasible"]) for p in said["points"]] == [
        (0.3, False),
        (0.4, True),
        (0.6, False),
        (1.0, False),
    ]
    assert {point["split"] for point in said["points"]} == {"search"}


def test_feasible_means_within_the_limits_that_were_asked_for(
    searched: str, read: Callable[..., Any]
) -> None:
    said = read("frontier", "--db", searched, "--max-flops", "70%")
    assert [(p["flops_ratio"], p["feasible"]) for p in said["points"]] == [
        (0.3, True),
        (0.4, True),
        (0.6, True),
    ]


def test_frontier_of_latency(
    add_study: Callable[..., str], point: Callable[..., Any], read: Callable[..., Any]
) -> None:
    slow = {**LATENCY, "value": 9.0, "high": 9.5}
    db = add_study(
        "fast", point("b050", 0.5, 0.01, latency=LATENCY), point("b060", 0.6, 0.002, latency=slow)
    )
    said = read("frontier", "--cost", "latency", "--db", db)
    assert said["cost"] == "latency"
    assert [p["latency_ms"] for p in said["points"]] == [LATENCY, slow]
    # The budget is held against the upper end of the interval, which is 8.5 ms.
    assert len(read("frontier", "--db", db, "--max-latency", "8.4ms")["points"]) == 0
    assert len(read("frontier", "--db", db, "--max-latency", "8.5")["points"]) == 1


def test_what_was_only_predicted_is_null(
    add_study: Callable[..., str], point: Callable[..., Any], read: Callable[..., Any]
) -> None:
    predicted = {"value": None, "verdict": "predicted", "predicted": {"p95": 6.0}}
    timed = {**LATENCY, "tries": 1, "predicted": {"p95": 6.0}}
    db = add_study(
        "guessed", point("b050", 0.5, 0.01, latency=predicted), point("b06", 0.6, 0, latency=timed)
    )
    found = {p["flops_ratio"]: p["latency_ms"] for p in read("frontier", "--db", db)["points"]}
    assert (found[0.5], found[0.6]) == (None, LATENCY)
    assert read("status", "--db", db)["best"]["latency_ms"] is None
    frame = trimtab.open_study("guessed", db=db).frontier()
    assert [None if row is None else row["value"] for row in frame["latency"]] == [None, 8.0]


def test_several_latencies_come_with_the_first(
    add_study: Callable[..., str], point: Callable[..., Any], read: Callable[..., Any]
) -> None:
    many = {**LATENCY, "statistic": "mean", "value": 90.0, "high": 95.0, "batch_size": 32}
    slow = {**many, "value": 99.0, "high": 101.0, "tries": 1}
    db = add_study(
        "both",
        point("b050", 0.5, 0.01, latency={**LATENCY, "others": [many]}),
        point("b060", 0.6, 0.002, latency={**LATENCY, "others": [slow]}),
    )
    with Store.open(db) as store:
        row = store.study("both")
        assert row is not None
        limits = {"max_drop": 0.02, "max_latency_ms": 9.0, "other_latencies_ms": [100.0]}
        lease = store.acquire(row.id, "test", 60)
        store.update_study(lease, limits=limits)
        store.release(lease)
    found = {p["flops_ratio"]: p for p in read("frontier", "--db", db)["points"]}
    assert [found[ratio]["feasible"] for ratio in (0.5, 0.6)] == [True, False]
    assert list(found[0.5]["latency_ms"]) == [*LATENCY, "others"]
    (other,) = found[0.5]["latency_ms"]["others"]
    assert other == {**many, "max_ms": 100.0, "holds": True}
    assert found[0.6]["latency_ms"]["others"][0]["holds"] is False
    # Another question goes by the first, and limits no other.
    asked = read("frontier", "--db", db, "--max-latency", "9ms")["points"]
    assert [(p["flops_ratio"], p["feasible"]) for p in asked] == [(0.5, True), (0.6, True)]
    assert asked[0]["latency_ms"]["others"][0]["holds"] is None
    assert read("status", "--db", db)["best"]["latency_ms"]["others"] == [other]


def test_a_frontier_of_nothing_is_empty(
    add_study: Callable[..., str], read: Callable[..., Any]
) -> None:
    said = read("frontier", "--db", add_study("new", measured=False))
    assert said["points"] == []
    assert said["baseline"] == dict.fromkeys(("metric", "flops", "params", "latency_ms"))


def test_plot(searched: str, read: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "frontier.html"
    assert read("plot", "--db", searched, "--out", out) == {"written": str(out)}
    assert out.stat().st_size > 1000


def test_init_and_validate(read: Callable[..., Any], tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    written = read("init", spec)["written"]
    assert written[0] == str(spec)
    assert all(Path(path).is_file() for path in written)
    said = read("validate", spec)
    assert list(said) == ["valid", "spec"]
    assert said["valid"] is True
    assert said["spec"]["name"] == "starter"


def test_verify(finished: Any, read: Callable[..., Any]) -> None:
    said = read("verify", finished.checkpoint)
    assert list(said) == ["files", "tensors", "max_logit_difference", "flops", "params"]
    assert said["files"] == 17
    assert said["max_logit_difference"] <= 1e-5
    dev = finished.folder / "starter" / "dev.tsv"
    said = read("verify", finished.checkpoint, "--on", dev)
    assert list(said)[5:] == ["metric_name", "metric", "n", "flops_on"]
    assert (said["metric_name"], said["n"]) == ("accuracy", 240)
    # The whole file is the workload that costs are counted on.
    assert said["flops_on"] == said["flops"]


def test_verify_agrees_with_what_was_measured(finished: Any, read: Callable[..., Any]) -> None:
    """The halves of the file are the rows that decided and the rows that certified."""
    manifest = json.loads((finished.checkpoint / "trimtab.json").read_text())
    said = read("verify", finished.checkpoint, "--on", finished.folder / "starter" / "dev.tsv")
    halves = (manifest["point"], manifest["certificate"])
    assert said["metric"] == pytest.approx(sum(h["metric"] * h["n"] for h in halves) / said["n"])


def test_run_continues_a_finished_study(
    finished_copy: Any, read: Callable[..., Any], verify_here: None, one_thread: None
) -> None:
    before = read("trials", "--db", finished_copy.db)
    said = read("run", finished_copy.spec, "--db", finished_copy.db, "--quiet")
    assert list(said) == [
        *("study", "checkpoint", "feasible", "relaxations", "point", "certified", "certificate"),
        "delivered_latency",
    ]
    assert said["delivered_latency"] is None, "this study has no latency budget"
    assert said["study"] == "starter"
    assert said["checkpoint"] == str(finished_copy.checkpoint)
    assert list(said["point"]) == POINT
    assert list(said["certificate"]) == [
        *("max_drop", "metric", "baseline_metric", "drop", "drop_interval_95", "n"),
        "points_certified_so_far",
    ]
    assert said["certificate"]["points_certified_so_far"] == 1
    assert read("trials", "--db", finished_copy.db) == before


def test_a_copied_study_goes_on(
    finished: Any,
    read: Callable[..., Any],
    verify_here: None,
    one_thread: None,
    tmp_path: Path,
) -> None:
    """Its model and data lie elsewhere then, with the same contents."""
    folder = shutil.copytree(finished.folder, tmp_path / "other")
    db = f"sqlite:///{folder}/trimtab.db"
    before = read("trials", "--db", db)
    said = read("run", folder / "spec.yaml", "--db", db, "--quiet")
    assert said["checkpoint"].startswith(str(folder))
    assert read("trials", "--db", db) == before


def test_plan(finished_copy: Any, read: Callable[..., Any]) -> None:
    said = read("plan", finished_copy.spec, "--db", finished_copy.db)
    assert said["study"] == "starter"
    assert said["rows"] == {"to train on": 480, "to decide on": 120, "to certify": 120}
    assert said["reuse"]["has_baseline"] is True
    assert said["reach"]["fisher"]["low_ratio"] == 0
    assert said["warnings"] == []
