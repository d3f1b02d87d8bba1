"""Ctrl-C and SIGTERM take effect between transactions, never inside one."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from trimtab_storage import Lease, Store, StudyRow
from trimtab_storage._shield import signals_wait

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ROUNDS = 60


class Stop(BaseException):
    """What the handlers of these tests raise."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stop(number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_waits_for_the_end_and_is_not_lost(number: int) -> None:
    done = False
    with pytest.raises(Stop, match=str(int(number))), signals_wait():
        send(number)
        done = True
    assert done
    with pytest.raises(Stop):
        send(number)


def test_signal_that_waits_does_not_hide_an_error() -> None:
    with pytest.raises(Stop) as caught, signals_wait():
        send(signal.SIGINT)
        raise ValueError("what went wrong")
    assert isinstance(caught.value.__context__, ValueError)


def test_shields_may_be_nested() -> None:
    done = False
    with pytest.raises(Stop), signals_wait():
        with signals_wait():
            send(signal.SIGTERM)
        done = True
    assert done


def test_other_threads_leave_the_handlers_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    seen: list[object] = []

    def work() -> None:
        with signals_wait():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before


def test_transaction_that_a_signal_hits_is_whole(
    store: Store, study: StudyRow, lease: Lease
) -> None:
    clock = store._clock

    def slow_clock() -> float:
        send(signal.SIGINT)
        return clock()

    store._clock = slow_clock
    with pytest.raises(Stop):
        store.add_trial(lease, [], "a")
    store._clock = clock
    assert [trial.recipe_key for trial in store.trials(study.id)] == ["a"]
    store.add_trial(lease, [], "b")


def test_store_works_on_after_signals_at_any_moment(
    store: Store, study: StudyRow, lease: Lease, rng: random.Random
) -> None:
    stopped = 0
    for _ in range(ROUNDS):
        timer = threading.Timer(rng.random() * 0.02, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                store.update_study(lease, elapsed_s=rng.random())
                store.points(study.id)
        except Stop:
            stopped += 1
        began = time.monotonic()
        store.update_study(lease, state="interrupted")
        assert time.monotonic() - began < 5, "the database was left locked"
    assert stopped == ROUNDS
