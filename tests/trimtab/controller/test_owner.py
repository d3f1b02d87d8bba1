from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trimtab import _owners
from trimtab._owners import owner_process
from trimtab.controller._owner import LeaseKeeper, is_dead, this_owner
from trimtab_storage import DatabaseBusyError, LeaseHeldError, LeaseLostError, Store

NAME_OF = "from trimtab.controller._owner import this_owner; print(this_owner(), flush=True);"


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "waited 10 s in vain"
        time.sleep(0.005)


def test_this_process_is_alive_and_has_one_name() -> None:
    owner = this_owner()
    assert owner == this_owner()
    assert owner_process(owner) == (socket.gethostname(), os.getpid())
    assert not is_dead(owner)


def test_process_is_alive_until_it_has_ended() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NAME_OF + "input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    assert not is_dead(owner)
    process.kill()
    # Killed but not yet waited for by its parent, which may take its time.
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert is_dead(owner)
    process.communicate()
    assert is_dead(owner)


def test_later_process_with_the_same_number_is_another() -> None:
    host, pid, started = this_owner().replace("@", "/").rsplit("/", 2)
    assert is_dead(f"{host}/{pid}@{float(started) - 50:.2f}")


def test_setting_the_clock_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = this_owner()
    boot_time = psutil._psplatform.boot_time
    for hours in (-1, 1):
        # The system tells the moment of its start by the clock as it is now.
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda h=hours: boot_time() + 3600 * h)
        assert not is_dead(owner)
        assert this_owner() == owner


FREE = 2**22
"""The number of no process: Linux gives out smaller ones."""


def test_a_process_that_cannot_be_seen_from_here_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same host by its name, but in another container, or after another boot."""
    mine = this_owner()
    there = mine.rpartition("/")[0]
    assert is_dead(f"{there}/{FREE}@5.00")
    monkeypatch.setattr(_owners, "BOOT_ID", Path(__file__))
    assert this_owner() != mine and not is_dead(this_owner())
    assert not is_dead(f"{there}/{FREE}@5.00") and not is_dead(mine)
    assert owner_process(mine) == (socket.gethostname(), os.getpid())


@pytest.mark.parametrize("name", ["BOOT_ID", "NAMESPACE"])
def test_where_places_cannot_be_told_apart_the_host_stands_for_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    elsewhere = this_owner().rpartition("/")[0]
    monkeypatch.setattr(_owners, name, tmp_path / "none")
    owner = this_owner()
    assert owner.startswith(f"{socket.gethostname()}/{os.getpid()}@") and not is_dead(owner)
    assert is_dead(f"{socket.gethostname()}/{FREE}@5.00")
    assert not is_dead(f"{elsewhere}/{FREE}@5.00"), "it comes from who can tell them apart"


def test_names_of_older_versions_are_understood() -> None:
    process = this_owner().rpartition("/")[2]
    assert not is_dead(f"{socket.gethostname()}/{process}")
    assert is_dead(f"{socket.gethostname()}/{os.getpid()}@0.01")
    assert is_dead(f"{socket.gethostname()}/{FREE}@5.00")


def test_a_container_of_the_same_name_does_not_take_a_study_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Until the lease has run out, which a living controller does not let happen."""
    now = [1000.0]
    with Store.open(f"sqlite:///{tmp_path}/x.db", clock=lambda: now[0]) as store:
        study = store.create_study("study", {}, {}, {})
        with monkeypatch.context() as patch:
            patch.setattr(_owners, "BOOT_ID", Path(__file__))
            there = this_owner().replace(f"/{os.getpid()}@", f"/{FREE}@")
        store.acquire(study.id, there, 60.0, is_dead=is_dead)
        with pytest.raises(LeaseHeldError):
            store.acquire(study.id, this_owner(), 60.0, is_dead=is_dead)
        now[0] += 61.0
        assert store.acquire(study.id, this_owner(), 60.0, is_dead=is_dead).owner == this_owner()


@pytest.mark.parametrize("owner", ["elsewhere/1@5.00", "", "nonsense", "a/b@c"])
def test_of_others_nothing_is_certain(owner: str) -> None:
    assert not is_dead(owner)
    assert not is_dead(f"{socket.gethostname()}/nonsense@1")


def test_keeper_renews_until_it_is_stopped() -> None:
    renewals: list[float] = []
    keeper = LeaseKeeper(lambda: renewals.append(time.monotonic()), 0.04)
    until(lambda: len(renewals) > 3)
    keeper.stop()
    n = len(renewals)
    time.sleep(0.05)
    keeper.stop()
    assert len(renewals) == n and keeper.error is None
    assert "trimtab-lease" not in {thread.name for thread in threading.enumerate()}


def test_keeper_remembers_that_the_lease_was_lost() -> None:
    calls: list[int] = []

    def renew() -> None:
        calls.append(1)
        raise LeaseLostError("another has it")

    keeper = LeaseKeeper(renew, 0.02)
    until(lambda: keeper.error is not None)
    time.sleep(0.03)
    assert str(keeper.error) == "another has it" and len(calls) == 1
    keeper.stop()


def test_keeper_tries_again_while_the_database_is_busy() -> None:
    calls: list[int] = []

    def renew() -> None:
        calls.append(1)
        if len(calls) < 4:
            raise DatabaseBusyError("locked")

    keeper = LeaseKeeper(renew, 0.02)
    until(lambda: len(calls) > 4)
    keeper.stop()
    assert keeper.error is None


def test_pause_between_renewals_leaves_room_for_some_to_fail() -> None:
    renewals: list[float] = []
    started = time.monotonic()
    keeper = LeaseKeeper(lambda: renewals.append(time.monotonic() - started), 0.4)
    until(lambda: len(renewals) > 1)
    keeper.stop()
    assert 0.05 < renewals[0] < 0.2
