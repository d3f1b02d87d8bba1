"""Timing models against each other: the same requests, in turns, until the times are sure enough.

Legend:
    turn     some requests in a row, which one model answers and then the next
    round    all requests once, by all models
    pass     some requests by all models, before the rounds, to warm up
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trimtab_workers.latency._statistics import Times, by_round, noise_of
from trimtab_workers.latency._verdict import LEAST_REQUESTS, LEAST_ROUNDS, MOST_WAITED
from trimtab_workers.latency._waiting import Waits, find_waits
from trimtab_workers.latency.timing import timed_ms
from trimtab_workers.latency.workload import Statistic

Request = Mapping[str, torch.Tensor]
Model = Callable[..., Any]
Timer = Callable[[Callable[[], object], torch.device], float]

TEXTS_OF_A_TURN = 16
MOST_PASSES = 6
LEAST_OF_A_PASS = 4
SHARE_OF_WARM_UP = 0.1
STILL_FALLING = 0.97
NARROW = 0.02
MOST_ROUNDS = 40
MOST_S = 120.0
"""What timing may take where requests are slow; if the fewest take longer, fewer are timed, which
is then too few for a verdict."""


@dataclass(frozen=True, eq=False)
class Samples:
    """All times that were taken, in milliseconds.

    ``ms`` has [requests, rounds] for each model. ``waited`` is, for each round, the part of the
    time that the process waited for a processor; None where that cannot be known.
    """

    ms: dict[str, Times]
    waited: Times | None = None

    def calm(self) -> Samples:
        """Leaves out the rounds that other work held up, if enough others remain.

        They are told by the cause, for all models alike, and not by how long they took.
        """
        if self.waited is None:
            return self
        calm = self.waited <= MOST_WAITED
        if calm.sum() < LEAST_ROUNDS:
            return self
        return Samples({name: ms[:, calm] for name, ms in self.ms.items()}, self.waited[calm])

    @property
    def waited_on_average(self) -> float | None:
        """The part of the time that was waited, over all rounds."""
        return None if self.waited is None else float(self.waited.mean())


def measure_pairs(
    models: Mapping[str, Model],
    requests: Sequence[Request],
    *,
    device: torch.device,
    statistic: Statistic = "p50",
    also: Sequence[Statistic] = (),
    threads: int = 1,
    limit_s: float = 20.0,
    timer: Timer = timed_ms,
    clock: Callable[[], float] = time.perf_counter,
    waits: Waits | None = None,
    on_round: Callable[[float], None] | None = None,
) -> Samples:
    """Times models on the same requests, interleaved, so that what slows one slows the others.

    Small requests come in turns of some in a row, of which the first is answered once untimed: a
    model that serves alone finds its weights in the processor's cache. Who is first changes from
    turn to turn and from round to round. Rounds go on until noise leaves the statistic of every
    model uncertain by no more than ``NARROW``, or until ``limit_s`` is over; there are always
    ``LEAST_ROUNDS``. Where not even these fit, fewer requests are timed, but never fewer than the
    statistic needs.

    Args:
        models: Called with the tensors of a request by name.
        requests: On the device already, so that bringing them there is not timed.
        device: Where the models are.
        statistic: What is to be known well.
        also: Further statistics that are to be.
        threads: CPU threads that models use: so many may wait at once.
        limit_s: Seconds for everything.
        timer: Gives the milliseconds that a call takes.
        clock: Gives seconds.
        waits: Gives seconds waited so far; by default what the system knows.
        on_round: Told the seconds gone by after each round.
    """
    began, waits = clock(), waits or find_waits(device.type)
    wanted = (statistic, *also)
    contest = _Contest(models, list(requests), device, timer)
    rounds: list[dict[str, list[float]]] = []
    waited: list[float] | None = [] if waits else None
    samples = Samples({})
    with _undisturbed():
        contest.warm_up(limit_s, clock)
        contest.keep_affordable(
            limit_s - (clock() - began), max(LEAST_REQUESTS[each] for each in wanted)
        )
        while not _is_enough(samples, wanted, clock() - began >= limit_s):
            started, waited_before = clock(), waits() if waits else 0.0
            rounds.append(contest.round(len(rounds)))
            if waits and waited is not None:
                cpu_s = max(clock() - started, 1e-9) * threads
                waited.append(max(0.0, waits() - waited_before) / cpu_s)
            samples = _as_samples(rounds, waited)
            if on_round:
                on_round(clock() - began)
    return samples


def _as_samples(rounds: list[dict[str, list[float]]], waited: list[float] | None) -> Samples:
    ms = {name: np.array([one[name] for one in rounds]).T for name in rounds[0]}
    return Samples(ms, None if waited is None else np.array(waited))


def _is_enough(samples: Samples, wanted: Sequence[Statistic], is_late: bool) -> bool:
    if not samples.ms:
        return False
    n_rounds = next(iter(samples.ms.values())).shape[1]
    if n_rounds < LEAST_ROUNDS:
        return False
    if is_late or n_rounds >= MOST_ROUNDS:
        return True
    calm = samples.calm()
    is_calm = calm.waited is None or bool((calm.waited <= MOST_WAITED).all())
    return is_calm and all(
        noise_of(by_round(ms, statistic)) <= NARROW
        for ms in calm.ms.values()
        for statistic in wanted
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keeps the collector of garbage, and torch's book-keeping for gradients, out of the times."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_on:
            gc.enable()


class _Contest:
    """Models and the requests that they take turns at."""

    def __init__(
        self,
        models: Mapping[str, Model],
        requests: list[Request],
        device: torch.device,
        timer: Timer,
    ) -> None:
        if not models or not requests:
            raise ValueError("timing needs at least one model and one request")
        self._models, self._requests = models, requests
        self._device, self._timer = device, timer
        self._seconds_each = 0.0  # of one request, by all models

    def warm_up(self, limit_s: float, clock: Callable[[], float]) -> None:
        """Has the models answer until that takes no less time than before, within bounds.

        Requests of new sizes cost more than they will later, so first come as many as there is
        time for, and then the last of them again.
        """
        began, length = clock(), max(self._in_a_row, LEAST_OF_A_PASS)
        for start in range(0, len(self._requests), length):
            some = self._requests[start : start + length]
            took_ms = self._pass(some)
            if clock() - began > SHARE_OF_WARM_UP * limit_s:
                break
        for _ in range(MOST_PASSES):
            before_ms, took_ms = took_ms, self._pass(some)
            if took_ms >= STILL_FALLING * before_ms:
                break
        self._seconds_each = took_ms / 1000 / len(some)

    def keep_affordable(self, left_s: float, least: int) -> None:
        """Keeps as many requests as can be answered in each of the fewest rounds."""
        extra = 1 + 1 / self._in_a_row if self._in_a_row > 1 else 1
        cost_s = LEAST_ROUNDS * extra * self._seconds_each
        if cost_s > 0:
            bearable = min(least, int(MOST_S / cost_s))
            self._requests = self._requests[: max(1, bearable, int(left_s / cost_s))]

    def round(self, number: int) -> dict[str, list[float]]:
        """Times every model on every request, in turns."""
        names, length = list(self._models), self._in_a_row
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn, start in enumerate(range(0, len(self._requests), length)):
            first = (turn + number) % len(names)
            for name in names[first:] + names[:first]:
                times[name] += self._turn(name, self._requests[start : start + length])
        return times

    def _turn(self, name: str, requests: Sequence[Request]) -> list[float]:
        model = self._models[name]
        if self._in_a_row > 1:
            model(**requests[0])
        return [self._time(model, request) for request in requests]

    def _pass(self, requests: Sequence[Request]) -> float:
        """Gives the milliseconds that all models take for some requests."""
        return sum(sum(self._turn(name, requests)) for name in self._models)

    def _time(self, model: Model, request: Request) -> float:
        return self._timer(lambda: model(**request), self._device)

    @property
    def _in_a_row(self) -> int:
        """Requests of a turn: large ones fill the cache with their own, and come one by one."""
        return max(1, TEXTS_OF_A_TURN // self._batch_size)

    @property
    def _batch_size(self) -> int:
        return max(len(part) for part in self._requests[0].values())
