"""Timing in turns, with a timer that is told what to say and a clock that it moves."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trimtab_workers.latency.pairs import (
    MOST_ROUNDS,
    TEXTS_OF_A_TURN,
    Samples,
    measure_pairs,
)

CPU = torch.device("cpu")


class Stage:
    """Models that note who was asked what, and time that passes as a script says.

    ``takes(name, request, nth)`` are the milliseconds of the nth timed call of a model.
    """

    def __init__(self, takes: Callable[[str, int, int], float], names: str = "ab") -> None:
        self.now_s = 0.0
        self.asked: list[tuple[str, int]] = []
        self.timed: list[tuple[str, int]] = []
        self.models = {name: self._model(name) for name in names}
        self._takes = takes

    def _model(self, name: str) -> Callable[..., None]:
        def model(input_ids: torch.Tensor) -> None:
            assert torch.is_inference_mode_enabled() and not gc.isenabled()
            self.asked.append((name, int(input_ids[0, 0])))

        return model

    def timer(self, call: Callable[[], object], device: torch.device) -> float:
        assert device == CPU
        call()
        name, request = self.asked[-1]
        took_ms = self._takes(name, request, sum(who == name for who, _ in self.timed))
        self.timed.append((name, request))
        self.now_s += took_ms / 1000
        return took_ms

    def measure(self, n_requests: int, batch_size: int = 1, **options: Any) -> Samples:
        requests = [{"input_ids": torch.full((batch_size, 3), i)} for i in range(n_requests)]
        given = {"waits": lambda: 0.0, "limit_s": 1.0, **options}
        return measure_pairs(
            self.models,
            requests,
            device=CPU,
            timer=self.timer,
            clock=lambda: self.now_s,
            **given,
        )


def test_times_come_back_by_model_request_and_round() -> None:
    stage = Stage(lambda name, request, nth: {"a": 1.0, "b": 2.0}[name] * (1 + request))
    samples = stage.measure(5)
    assert samples.ms["a"].shape == (5, 3)  # nothing varies: three rounds tell it all
    assert samples.ms["a"].tolist() == [[1.0 + i] * 3 for i in range(5)]
    assert samples.ms["b"].tolist() == [[2.0 * (1 + i)] * 3 for i in range(5)]
    assert samples.waited is not None and samples.waited.tolist() == [0.0] * 3


def test_small_requests_come_in_turns_and_who_is_first_rotates() -> None:
    stage, n = Stage(lambda *_: 0.01, "abc"), 2 * TEXTS_OF_A_TURN
    stage.measure(n)
    first, second = list(range(TEXTS_OF_A_TURN)), list(range(TEXTS_OF_A_TURN, n))
    turns = [("abc", first), ("bca", second), ("bca", first), ("cab", second)]
    expected = [(who, i) for names, turn in turns for who in names for i in turn]
    rounds = stage.timed[-9 * n :]
    assert rounds[: len(expected)] == expected


def test_the_first_request_of_a_turn_is_answered_once_untimed() -> None:
    stage = Stage(lambda *_: 0.01)
    stage.measure(TEXTS_OF_A_TURN)
    last_turn = stage.asked[-TEXTS_OF_A_TURN - 1 :]
    assert [i for _, i in last_turn] == [0, *range(TEXTS_OF_A_TURN)]


def test_large_requests_come_one_by_one() -> None:
    stage = Stage(lambda *_: 0.01)
    stage.measure(2, batch_size=32)
    expected = [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("b", 0), ("a", 0), ("a", 1), ("b", 1)]
    assert stage.timed[-12:][:8] == stage.asked[-12:][:8] == expected


def test_warming_up_goes_on_while_times_fall() -> None:
    """They halve with every pass over the four requests, down to 1 ms: 16, 8, 4, 2, 1, 1."""
    stage = Stage(lambda name, request, nth: max(1.0, 16.0 / 2 ** (nth // 4)))
    samples = stage.measure(4)
    assert samples.ms["a"].max() == 1.0
    assert len(stage.timed) == 2 * 4 * (6 + 3)


def test_warming_up_has_an_end() -> None:
    stage = Stage(lambda name, request, nth: 0.9**nth)
    stage.measure(4, limit_s=0.001)
    assert len(stage.timed) == 2 * 4 * (1 + 6 + 3)


def alternating(name: str, request: int, nth: int) -> float:
    """Every other round takes half as long again."""
    return 1.5 if nth // 20 % 2 else 1.0


def test_rounds_go_on_until_the_limit_while_times_are_uncertain() -> None:
    stage = Stage(alternating)
    short, long = (Stage(alternating).measure(20, limit_s=s).ms["a"] for s in (0.2, 0.8))
    assert 3 <= short.shape[1] < long.shape[1] < MOST_ROUNDS
    assert stage.measure(20, limit_s=1e9).ms["a"].shape[1] == MOST_ROUNDS


def test_there_are_three_rounds_whatever_the_limit() -> None:
    assert Stage(lambda *_: 5.0).measure(20, limit_s=0.001).ms["a"].shape == (20, 3)


@pytest.mark.parametrize(
    ("statistic", "limit_s", "left"), [("p50", 0.1, 20), ("p95", 0.1, 72), ("p50", 1e3, 100)]
)
def test_fewer_requests_are_timed_where_three_rounds_do_not_fit_but_enough(
    statistic: Any, limit_s: float, left: int
) -> None:
    samples = Stage(lambda *_: 5.0).measure(100, limit_s=limit_s, statistic=statistic)
    assert samples.ms["a"].shape == (left, 3)


def test_requests_and_rounds_are_enough_for_every_statistic() -> None:
    samples = Stage(lambda *_: 5.0).measure(100, limit_s=0.1, statistic="p50", also=("p95",))
    assert samples.ms["a"].shape == (72, 3)

    def slow_ones_vary(name: str, request: int, nth: int) -> float:
        return 2.0 if request < 15 and nth // 100 % 2 else 1.0

    few, more = (
        Stage(slow_ones_vary).measure(100, limit_s=1e3, statistic="p50", also=also).ms["a"]
        for also in ((), ("p95",))
    )
    assert few.shape[1] == 3 < more.shape[1]


def test_what_was_waited_is_a_part_of_the_time_of_all_threads() -> None:
    stage = Stage(lambda *_: 1.0)
    samples = stage.measure(20, limit_s=0.01, threads=2, waits=lambda: stage.now_s)
    assert samples.waited is not None
    assert samples.waited.tolist() == pytest.approx([0.5] * 3)


def test_rounds_that_were_held_up_do_not_count_and_are_made_up_for() -> None:
    """Other work comes in the first two rounds; what is timed then takes twice as long."""
    n_warm = 20 + 4  # requests of 20, four at a time, and the last four again

    def is_held_up(nth: int) -> bool:
        return n_warm <= nth < n_warm + 40

    stage = Stage(lambda name, request, nth: 2.0 if is_held_up(nth) else 1.0)
    waited_s = 0.0

    def waits() -> float:
        nonlocal waited_s
        n_timed = sum(who == "a" for who, _ in stage.timed)
        waited_s = 0.02 * min(2, max(0, n_timed - n_warm) // 20)
        return waited_s

    samples = stage.measure(20, batch_size=32, waits=waits)
    assert samples.ms["a"].shape == (20, 5)
    assert samples.ms["a"][0].tolist() == [2.0, 2.0, 1.0, 1.0, 1.0]
    calm = samples.calm()
    assert calm.ms["b"].tolist() == [[1.0] * 3] * 20
    assert calm.waited is not None and calm.waited.tolist() == [0.0] * 3


def test_all_rounds_count_when_too_few_were_calm() -> None:
    samples = Samples({"a": np.ones((2, 4))}, np.array([0.0, 0.4, 0.4, 0.0]))
    assert samples.calm() is samples
    assert samples.waited_on_average == pytest.approx(0.2)
    unknown = Samples({"a": np.ones((2, 4))})
    assert unknown.calm() is unknown and unknown.waited_on_average is None


def test_the_collector_comes_back_even_after_an_error() -> None:
    def broken(**request: Any) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        measure_pairs({"a": broken}, [{"input_ids": torch.ones(1, 2)}], device=CPU)
    assert gc.isenabled()


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one model and one request"):
        Stage(lambda *_: 1.0).measure(0)


def test_progress_is_told_after_each_round() -> None:
    told: list[float] = []
    stage = Stage(lambda *_: 1.0)
    stage.measure(5, on_round=told.append)
    assert len(told) == 3 and told == sorted(told)
