"""Two runs on one host do not time at once, and nobody waits for ever or for the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from trimtab_workers.executors import WorkerContext
from trimtab_workers.latency import _taking_turns
from trimtab_workers.latency._taking_turns import STAGE, turn_file, turn_to_time

HOLDER = """
import sys, time
from trimtab_workers.executors import WorkerContext
from trimtab_workers.latency._taking_turns import turn_to_time
with turn_to_time(sys.argv[1], WorkerContext("cpu", lambda *_: None)) as has_turn:
    print(has_turn, flush=True)
    time.sleep(float(sys.argv[2]))
"""
Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts another process that holds the turn for some seconds."""
    with ExitStack() as processes:

        def start(seconds: float, device: str = "cpu") -> subprocess.Popen[str]:
            command = [sys.executable, "-c", HOLDER, device, str(seconds)]
            other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            processes.callback(other.wait)
            processes.callback(other.kill)
            assert other.stdout is not None and other.stdout.readline() == "True\n"
            return other

        yield start


@pytest.fixture
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def context(told: list[Any]) -> WorkerContext:
    return WorkerContext("cpu", lambda *report: told.append(report))


def test_a_turn_is_waited_for_until_the_other_process_is_done(
    hold: Hold, context: WorkerContext, told: list[Any]
) -> None:
    other = hold(1.0)
    with turn_to_time("cpu", context) as has_turn:
        assert has_turn
        other.wait(timeout=5)
    assert other.returncode == 0, "it was not held up, and had ended by itself"
    assert told[0] == (STAGE, 0, 60)
    assert 0.1 < context.held_up_s < 10.0


def test_who_is_killed_leaves_nothing_behind(hold: Hold, context: WorkerContext) -> None:
    other = hold(600.0)
    with turn_to_time("cpu", context, most_wait_s=0.0) as has_turn:
        assert not has_turn
    other.kill()
    with turn_to_time("cpu", context, most_wait_s=10.0) as has_turn:
        assert has_turn


def test_nobody_waits_for_longer_than_the_bound(
    hold: Hold, context: WorkerContext, told: list[Any]
) -> None:
    hold(600.0)
    began = time.monotonic()
    with turn_to_time("cpu", context, most_wait_s=0.5) as has_turn:
        assert not has_turn
    assert 0.5 <= time.monotonic() - began < 10
    assert {stage for stage, _, _ in told} == {STAGE}
    assert 0.5 <= context.held_up_s < 10, "also where it was in vain"


def test_who_hangs_is_waited_for_once_in_a_while(
    hold: Hold, context: WorkerContext, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(600.0)
    waited: list[bool] = []
    for _ in range(3):
        with turn_to_time("cpu", context, most_wait_s=0.3) as has_turn:
            assert not has_turn
        waited.append(bool(told))
        told.clear()
    assert waited == [True, False, False]
    monkeypatch.setattr(_taking_turns, "WITHOUT_WAITING_S", 0.0)
    with turn_to_time("cpu", context, most_wait_s=0.3) as has_turn:
        assert not has_turn and told, "some time later it is waited for again"


def test_who_is_done_after_all_is_waited_for_the_next_time(
    hold: Hold, context: WorkerContext, told: list[Any]
) -> None:
    slow = hold(600.0)
    with turn_to_time("cpu", context, most_wait_s=0.3) as has_turn:
        assert not has_turn
    slow.kill()
    slow.wait()
    with turn_to_time("cpu", context) as has_turn:
        assert has_turn
    told.clear()
    hold(1.0)
    with turn_to_time("cpu", context) as has_turn:
        assert has_turn and told


def test_another_type_of_device_is_another_turn(
    hold: Hold, context: WorkerContext, told: list[Any]
) -> None:
    hold(600.0, "cuda")
    with turn_to_time("cpu", context) as has_turn:
        assert has_turn and not told
    assert context.held_up_s == 0.0


def test_a_turn_is_given_back_also_after_an_error(context: WorkerContext) -> None:
    with suppress(ValueError), turn_to_time("cpu", context) as has_turn:
        assert has_turn
        raise ValueError
    for _ in range(2):
        with turn_to_time("cpu", context, most_wait_s=0.0) as has_turn:
            assert has_turn


def test_what_a_job_starts_does_not_keep_its_turn(context: WorkerContext) -> None:
    with turn_to_time("cpu", context):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with turn_to_time("cpu", context, most_wait_s=0.0) as has_turn:
            assert has_turn and child.poll() is None
    finally:
        child.communicate(b"\n")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_others_may_lay_in_the_way_is_let_alone(
    kind: str, tmp_path: Path, context: WorkerContext
) -> None:
    target, place = tmp_path / "precious", turn_file("cpu")
    assert place.parent == tmp_path
    match kind:
        case "link":
            place.symlink_to(target)
        case "folder":
            place.mkdir()
        case "pipe":
            os.mkfifo(place)
    with turn_to_time("cpu", context) as has_turn:
        assert not has_turn
    assert not target.exists()


def test_a_file_of_another_user_is_not_waited_for(
    context: WorkerContext, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    another = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another)
    turn_file("cpu").touch()  # by another user than who we now are, under our name
    with turn_to_time("cpu", context) as has_turn:
        assert not has_turn and not told


def test_without_locks_nobody_waits(
    context: WorkerContext, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_taking_turns, "fcntl", None)
    with turn_to_time("cpu", context) as has_turn:
        assert not has_turn and not told
