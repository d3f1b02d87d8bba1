"""The rule of `search.stop` is told what came since, and decides as if it read everything."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.controller._history import is_only_looked_at
from trimtab.controller._stopping import StopRule
from trimtab.errors import InterruptedStudyError, NothingFinishedError
from trimtab.progress import Pair, by_ended, pairs_by_trial, share_of
from trimtab.spec._stopping import Share, Stop
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import LadderJob

P95 = {"latency": {"p95": "60%", "batch_size": 2}}


def gain_by_all(
    trials: Sequence[Sequence[Pair]], patience: int, max_drop: float, start: Sequence[Pair]
) -> float | None:
    """What is meant by a gain: all points before the last trials, and all points."""
    if len(trials) < patience:
        return None
    earlier, last = trials[: len(trials) - patience], trials[len(trials) - patience :]
    known = [*start, *(pair for trial in earlier for pair in trial)]
    before = share_of(known, max_drop)
    if before <= 0:
        return None
    return share_of([*known, *(pair for trial in last for pair in trial)], max_drop) / before - 1


def gains_little_by_all(
    stop: Stop, max_drop: float, trials: Sequence[Any], points: Sequence[Any]
) -> bool:
    """What is meant by the rule, told of every trial and point of a study at once."""
    made = [trial for trial in trials if not is_only_looked_at(trial)]
    by_trial = pairs_by_trial(points)
    measured = [by_trial.get(trial.id, []) for trial in by_ended(made)]
    gain = gain_by_all(measured, stop.patience, max_drop, by_trial.get(None, []))
    return gain is not None and gain < stop.gain.ratio


class Played:
    """A study of which now this, now that is changed, as by a controller; `changed` tells which."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.trials, self.points = rng, list[Any](), list[Any]()
        self.changed: set[int] = set()
        self.clock = 100

    def step(self) -> None:
        kind = self.rng.choice([self.begin, self.begin, self.end, self.end, self.measure])
        self.clock += self.rng.choice([0, 1, 1, 1, -3])
        kind()

    def begin(self) -> None:
        number = len(self.trials)
        recipe = [{"strategy": "acc", "choices": {"number": number}}]
        trial = SimpleNamespace(id=number + 7, number=number, recipe=recipe)
        trial.state, trial.finished_at, trial.result = "running", None, None
        self.trials.append(trial)
        self.changed.add(number)

    def end(self) -> None:
        """Some fail, some are only looked at, and some of those go on."""
        going = [t for t in self.trials if t.state == "running" or is_only_looked_at(t)]
        if not going:
            return
        trial = self.rng.choice(going)
        failed = trial.state == "running" and self.rng.random() < 0.2
        trial.state = "failed" if failed else "complete"
        trial.result = None if failed else {"only_looked_at": self.rng.random() < 0.2}
        trial.finished_at = f"2026-01-01T00:{self.clock:04}"
        self.changed.add(trial.number)
        for _ in range(0 if failed or is_only_looked_at(trial) else self.rng.randint(0, 3)):
            self.add_point(trial.id)

    def measure(self) -> None:
        """Points of no trial, of one that was extended, and on the way to a look."""
        made = [trial.id for trial in self.trials if trial.state == "complete"]
        self.add_point(self.rng.choice([None, *made, *made]))

    def add_point(self, trial_id: int | None) -> None:
        drop, cost = self.rng.uniform(-0.05, 0.15), self.rng.uniform(0.1, 1.1)
        number = len(self.points) + 1
        self.points.append(
            SimpleNamespace(id=number, trial_id=trial_id, drop=drop, flops_ratio=cost)
        )


def test_random_histories_are_decided_as_if_all_was_read() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, decided = random.Random(seed), list[bool]()
    for _ in range(150):
        played = Played(rng)
        stop = Stop(gain=Share(rng.choice([0.001, 0.02, 0.2])), patience=rng.randint(1, 6))
        rule = StopRule(stop, 0.01)
        for _ in range(rng.randint(0, 80)):
            played.step()
            if rng.random() < 0.5:
                continue
            rule.note_trials(played.trials[number] for number in sorted(played.changed))
            rule.note_points([point for point in played.points if point.id > rule.seen_id])
            played.changed.clear()
            over = gains_little_by_all(stop, 0.01, played.trials, played.points)
            assert rule.gains_little() == over == (rule.line is not None)
            decided.append(over)
    assert 0 < sum(decided) < len(decided)


def has_sent(executor: Any, most: int) -> bool:
    return len(executor.sent) > most


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search__strategies": ["fisher", {"acc": {"epochs": 1}}], "search__looks": ["25%"]},
        {"budget": P95},
    ],
    ids=["plain", "looks", "latency"],
)
def test_searches_decide_at_each_end_as_if_all_was_read(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, changes: Any
) -> None:
    """With failures and crashes, and interrupted again and again."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, decided = random.Random(seed), list[bool]()
    gains_little = StopRule.gains_little

    def compared(rule: Any) -> bool:
        over, study = gains_little(rule), bench.study(name).id
        trials, points = bench.store.trials(study), bench.store.points(study)
        known = (rule._stop, rule._gain._max_drop)
        assert over == gains_little_by_all(*known, trials, points)
        decided.append(over)
        return over

    def script(job: Any, nth: int) -> Any:
        lucky = not isinstance(job, LadderJob) or rng.random() < 0.8
        return None if lucky else Failure(rng.choice(["crashed", "error"]), "no")

    monkeypatch.setattr(StopRule, "gains_little", compared)
    for number in range(3):
        name, stop = f"study-{number}", {"gain": rng.choice(["1%", "20%"]), "patience": 4}
        spec = bench.spec(name=name, search__trials=20, search__stop=stop, **changes)
        for _ in range(4):
            some = fake(script, slots=rng.randint(1, 3))
            with suppress(InterruptedStudyError, NothingFinishedError):
                bench.run(some, spec, stop=partial(has_sent, some, rng.randint(5, 30)))
        assert bench.problems(name) == []
    assert 0 < sum(decided) < len(decided)


@pytest.mark.parametrize("n_trials", [6, 18])
def test_what_is_read_for_a_trial_does_not_grow(bench: Any, fake: Any, n_trials: int) -> None:
    """All trials are read at the start and end only, and points a few times each."""
    store, counts = bench.store, dict.fromkeys(("trials", "trial", "points"), 0)

    def counted(name: str) -> Any:
        read = getattr(store, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            found = read(*arguments, **named)
            counts[name] += len(found) if name == "points" else 1
            return found

        return counting

    with pytest.MonkeyPatch.context() as patch:
        for name in counts:
            patch.setattr(store, name, counted(name))
        stop = {"gain": "0.01%", "patience": 30}
        bench.run(fake(slots=2), bench.spec(search__trials=n_trials, search__stop=stop))
    assert counts["trials"] <= 4 and n_trials <= counts["trial"] <= 2 * n_trials
    assert counts["points"] <= 5 * len(store.points(bench.study().id))
