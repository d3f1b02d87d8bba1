from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from trimtab.controller._owner import LeaseKeeper, is_dead, this_owner
from trimtab_storage import DatabaseBusyError, LeaseLostError

NAME_OF = "from trimtab.controller._owner import this_owner; print(this_owner(), flush=True);"


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "waited 10 s in vain"
        time.sleep(0.005)


def test_this_process_is_alive_and_has_one_name() -> None:
    owner = this_owner()
    assert owner == this_owner()
    assert owner.startswith(f"{socket.gethostname()}/{os.getpid()}@")
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
