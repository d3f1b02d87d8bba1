"""`kill -9`, Ctrl-C, SIGTERM and SIGSTOP of the process that holds a study."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

KILLS, KILLS_WITH_RAY, STOPS = 5, 2, 4
RUN_S = 8.0
"""About how long a run takes from its start into the trials."""


def jobs(lines: list[Any], event: str) -> int:
    return sum(line.event == event for line in lines)


def wait_for_a_moment(lab: Any, rng: random.Random, seen: int) -> None:
    """Waits for any moment of a run: of its start, or with more weight of its work."""
    if rng.random() < 0.25:
        time.sleep(rng.random() * RUN_S)
        return
    n = rng.choice([1, 1, 2, 3])
    ended = lab.started[-1].poll
    lab.wait_for(lambda lines: jobs(lines, "start") >= n or ended() is not None, seen)
    time.sleep(rng.random() * 0.6)


def assert_all_is_well(lab: Any, n_trials: int) -> None:
    study = lab.study()
    assert (study.state, study.lease_owner) == ("finished", None)
    trials = lab.trials()
    assert [trial.state for trial in trials] == ["complete"] * n_trials
    assert [trial.attempts for trial in trials] == [1] * n_trials
    assert lab.problems() == []
    assert lab.leftovers() == []
    assert (lab.folder / "runs" / "checkpoint" / "trimtab.json").is_file()


def test_killed_controllers_lose_nothing_and_repeat_nothing(
    lab: Any, acknowledged: Any, uninterrupted: list[Any], rng: random.Random
) -> None:
    lab.write_spec()
    for _ in range(KILLS):
        seen = len(lab.log())
        process = lab.start()
        wait_for_a_moment(lab, rng, seen)
        process.kill()
        process.wait()
        acknowledged.note()
    assert lab.run(pause_s=0) == 0, lab.said()
    acknowledged.check()
    assert_all_is_well(lab, 8)
    starts = jobs([line for line in lab.log() if line.job == "LadderJob"], "start")
    assert starts <= 8 + KILLS, "a kill costs one trial a repetition, at most"
    assert [trial.recipe for trial in lab.trials()] == uninterrupted


def test_killed_controllers_take_their_ray_along(
    lab: Any, acknowledged: Any, rng: random.Random
) -> None:
    lab.write_spec(workers__executor="ray", workers__count=2, search__trials=4)
    for _ in range(KILLS_WITH_RAY):
        seen = len(lab.log())
        process = lab.start()
        n = rng.choice([1, 2, 3])
        lab.wait_for(lambda lines, n=n: jobs(lines, "start") >= n, seen)
        family = lab.family(process)
        workers = [member for member in family if member.name().startswith("ray::Worker")]
        assert workers
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive, "workers outlived their controller"
        acknowledged.note()
    assert lab.run(pause_s=0) == 0, lab.said()
    acknowledged.check()
    assert_all_is_well(lab, 4)
    _, alive = psutil.wait_procs([p for p in lab.families if not is_helper(p)], timeout=60)
    assert not alive, "Ray outlived the controllers"


def is_helper(process: psutil.Process) -> bool:
    """Tells whether a process is one of Ray's agents, which go later when they are idle."""
    try:
        return process.name().endswith("Agent")
    except psutil.NoSuchProcess:
        return False


def test_stopped_runs_save_their_state_and_go_on(
    lab: Any, uninterrupted: list[Any], rng: random.Random
) -> None:
    lab.write_spec()
    for number in range(STOPS):
        seen = len(lab.log())
        process = lab.start()
        # Before that, Python itself is starting.
        lab.wait_for(lambda lines: jobs(lines, "up") == 1, seen)
        if rng.random() < 0.3:
            time.sleep(rng.random() * 2)
        else:
            wait_for_a_moment(lab, rng, seen)
        if process.poll() is None:
            began = time.monotonic()
            process.send_signal([signal.SIGINT, signal.SIGTERM][number % 2])
            code = process.wait(30)
            assert time.monotonic() - began < 10, lab.said()
            assert code == 130, lab.said()
            assert "the same command" in lab.said().splitlines()[-1]
        study = lab.study()
        if study is not None:
            assert study.lease_owner is None and study.state != "finished"
            assert "running" not in [trial.state for trial in lab.trials()]
            assert lab.problems() == []
    assert "Traceback" not in lab.said()
    assert lab.run(pause_s=0) == 0, lab.said()
    assert_all_is_well(lab, 8)
    assert [trial.recipe for trial in lab.trials()] == uninterrupted


def test_stopped_ray_run_leaves_no_process(lab: Any) -> None:
    lab.write_spec(workers__executor="ray", workers__count=2, search__trials=20)
    process = lab.start()
    lab.wait_for(lambda lines: jobs(lines, "start") >= 2)
    family = lab.family(process)
    assert len(family) > 2
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130, lab.said()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert time.monotonic() - began < 10 and not alive
    study = lab.study()
    assert (study.state, study.lease_owner) == ("interrupted", None)
    assert {trial.state for trial in lab.trials()} <= {"waiting", "complete"}
    assert lab.problems() == []


def pause(lab: Any, process: Any) -> None:
    """Stops a controller in a trial, but not while it holds the database's lock."""
    while True:
        process.send_signal(signal.SIGSTOP)
        probe = sqlite3.connect(lab.folder / "trimtab.db", isolation_level=None, timeout=0)
        try:
            probe.execute("BEGIN IMMEDIATE")
            probe.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
        finally:
            probe.close()


def test_paused_controllers_write_nothing_when_they_wake_up(lab: Any, acknowledged: Any) -> None:
    lab.write_spec(search__trials=4)
    paused = []
    for _ in range(2):
        seen = len(lab.log())
        paused.append(lab.start(lease_s=1.0))
        lab.wait_for(lambda lines: jobs([x for x in lines if x.job == "LadderJob"], "start"), seen)
        pause(lab, paused[-1])
        acknowledged.note()
        time.sleep(1.1)
    assert lab.run(lease_s=1.0, pause_s=0) == 0, lab.said()
    assert_all_is_well(lab, 4)
    before = lab.contents()
    for process in paused:
        process.send_signal(signal.SIGCONT)
        assert process.wait(30) == 1, lab.said()
        assert "has lost it" in lab.said().splitlines()[-1]
        assert lab.contents() == before
    assert lab.problems() == []
    acks = [line.what for line in lab.log() if line.event == "ack"]
    assert sorted(acks) == sorted(trial.id for trial in lab.trials())


def test_study_that_runs_is_not_taken(lab: Any) -> None:
    lab.write_spec(search__trials=30)
    process = lab.start()
    lab.wait_for(lambda lines: jobs(lines, "start") >= 1)
    assert lab.run() == 2
    said = lab.said().splitlines()[-1]
    assert "one controller at a time" in said and f"process {process.pid} " in said
    assert process.poll() is None
    assert lab.problems() == []
