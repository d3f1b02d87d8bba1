"""Controllers killed, paused and stopped, again and again, in one study."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from trimtab_workers.jobs import LadderJob, StatisticsJob

pytestmark = pytest.mark.slow

LEASE_S = 0.4


def starts(lines: list[Any]) -> int:
    return sum(line.event == "start" and line.job == "LadderJob" for line in lines)


def wait_for_a_moment(stage: Any, rng: random.Random, seen: int) -> None:
    """Waits for a moment of the start, or of the work, of the controller started last."""
    if rng.random() < 0.2:
        time.sleep(rng.random() * 0.3)
        return
    stage.began(rng.choice([1, 1, 2, 3]), seen)
    time.sleep(rng.random() * 0.03)


def run_once(stage: Any, folder: Path, spec: dict[str, Any], **options: Any) -> list[Any]:
    """The trials of the same study, run once without any interruption."""
    whole = type(stage)(type(stage.lab)(folder, stage.lab.files), stage.value_of)
    folder.mkdir()
    whole.write_spec(**spec)
    assert whole.run(slots=1, pause_s=0, **options) == 0, whole.lab.said()
    trials: list[Any] = whole.lab.trials()
    return trials


def recipes_of_one_run(stage: Any, folder: Path, **spec: Any) -> list[Any]:
    """The recipes of the same study, run once without any interruption."""
    return [trial.recipe for trial in run_once(stage, folder, spec)]


def fail_at_some(job: Any, number: int) -> None:
    """Statistics of many rows never come about; heads that count for much kill their workers."""
    choices = dict(job.choices)
    if isinstance(job, StatisticsJob) and choices["calibration"] == 2048:
        raise ValueError("too many rows")
    if isinstance(job, LadderJob) and choices["head_weight"] > 4:
        os._exit(3)


def test_killed_controllers_repeat_nothing_and_go_on_as_if_uninterrupted(
    stage: Any, acknowledged: Any, rng: random.Random, size: Callable[..., int], tmp_path: Path
) -> None:
    kills = size(20, 200)
    spec = {"search__trials": 3 * kills}
    stage.write_spec(**spec)
    for _ in range(kills):
        seen = len(stage.lab.log())
        process = stage.start(slots=1)
        wait_for_a_moment(stage, rng, seen)
        assert process.is_alive(), "the study was over before all kills"
        process.kill()
        process.join()
        acknowledged.note()
    assert stage.run(slots=1, pause_s=0) == 0, stage.lab.said()
    acknowledged.check()
    stage.assert_finished({"complete": 3 * kills})
    assert {trial.attempts for trial in stage.lab.trials()} == {1}
    assert starts(stage.lab.log()) <= 4 * kills, "a kill costs one trial a repetition, at most"
    expected = recipes_of_one_run(stage, tmp_path / "whole", **spec)
    assert [trial.recipe for trial in stage.lab.trials()] == expected


def test_controllers_avoid_what_failed_for_those_that_were_killed(
    stage: Any, rng: random.Random, size: Callable[..., int], tmp_path: Path
) -> None:
    """Two trials fail at a step, with a kill between them or after, and later ones pass it over."""
    kills, lab = size(10, 100), stage.lab
    spec = {"search__trials": 3 * kills}
    stage.write_spec(**spec)
    for _ in range(kills):
        seen = len(lab.log())
        process = stage.start(slots=1, fate=fail_at_some)
        wait_for_a_moment(stage, rng, seen)
        process.kill()
        process.join()
    assert stage.run(slots=1, pause_s=0, fate=fail_at_some) == 0, lab.said()
    expected = run_once(stage, tmp_path / "whole", spec, fate=fail_at_some)
    states = [trial.state for trial in expected]
    assert states.count("failed") >= 2 and states.count("complete") >= len(states) / 3
    assert [trial.recipe for trial in lab.trials()] == [trial.recipe for trial in expected]
    assert [trial.state for trial in lab.trials()] == states
    assert lab.problems() == []


def test_paused_controllers_write_nothing_when_they_wake_up(
    stage: Any, rng: random.Random, size: Callable[..., int]
) -> None:
    """The next one has the study by then, and is itself the one that is paused after."""
    pauses, lab = size(12, 200), stage.lab
    stage.write_spec(search__trials=10_000)
    process = stage.start(lease_s=LEASE_S, quick=True)
    for _ in range(pauses):
        stage.began(1, len(lab.log()))
        time.sleep(rng.random() * 0.05)
        stage.pause(process)
        time.sleep(LEASE_S)
        late, seen = process, len(lab.log())
        process = stage.start(lease_s=LEASE_S, quick=True)
        lab.wait_for(lambda lines: any(line.event == "ack" for line in lines), seen)
        before = {trial.id for trial in lab.complete()}
        os.kill(late.pid, signal.SIGCONT)
        assert stage.end(late) == 1
        assert "has lost it" in lab.said().splitlines()[-1]
        # What it had recorded before it was paused it may say after.
        lates = {x.what for x in lab.log()[seen:] if x.event == "ack" and x.pid == late.pid}
        assert lates <= before, "a late result was taken"
    os.kill(process.pid, signal.SIGTERM)
    assert stage.end(process) == 130
    acks = [line.what for line in lab.log() if line.event == "ack"]
    assert len(acks) == len(set(acks)), "a result was recorded twice"
    assert set(acks) <= {trial.id for trial in lab.complete()}
    assert lab.problems() == []


def test_stopped_controllers_leave_nothing_behind_and_go_on(
    stage: Any, rng: random.Random, size: Callable[..., int], tmp_path: Path
) -> None:
    stops, lab = size(20, 50), stage.lab
    spec = {"search__trials": 4 * stops}
    stage.write_spec(**spec)
    for number in range(stops):
        seen = len(lab.log())
        process = stage.start(slots=1)
        lab.wait_for(lambda lines: any(line.event == "up" for line in lines), seen)
        wait_for_a_moment(stage, rng, seen)
        assert process.is_alive(), "the study was over before all stops"
        began = time.monotonic()
        os.kill(process.pid, [signal.SIGINT, signal.SIGTERM][number % 2])
        assert stage.end(process) == 130, lab.said()
        assert time.monotonic() - began < 10
        workers = {line.pid for line in lab.log()[seen:] if line.event == "start"}
        assert not any(psutil.pid_exists(pid) for pid in workers)
        study = lab.study()
        if study is not None:
            assert study.lease_owner is None and study.state != "finished"
            assert "running" not in [trial.state for trial in lab.trials()]
            assert lab.problems() == []
    assert "Traceback" not in lab.said()
    assert stage.run(slots=1, pause_s=0) == 0, lab.said()
    stage.assert_finished({"complete": 4 * stops})
    assert {trial.attempts for trial in lab.trials()} == {1}
    expected = recipes_of_one_run(stage, tmp_path / "whole", **spec)
    assert [trial.recipe for trial in lab.trials()] == expected
