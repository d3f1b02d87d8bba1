"""A budget is a promise: never more trials, hardly more time, and always a model."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab.emission import Emission
from trimtab_workers.jobs import LadderJob

INFEASIBLE = 100


@pytest.fixture
def delivered(fake: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Lets `trimtab run` have every value at once; gives the points that it delivered."""
    points: list[Any] = []

    def emit(store: Any, study: Any, choice: Any, forge: Any, out: Path, **named: Any) -> Any:
        points.append(choice.point)
        return Emission(out, choice.point, None)  # type: ignore[arg-type]

    def plain(result: Any) -> dict[str, Any]:
        choice = result.choice
        return {"point": choice.point.id, "enough": choice.relaxations}

    monkeypatch.setattr("trimtab_workers.executors.make_executor", lambda *a, **n: fake(slots=2))
    monkeypatch.setattr("trimtab.controller._run.emit_checkpoint", emit)
    monkeypatch.setattr("trimtab.cli._show.run_plain", plain)
    # Waiting for the disk takes most of the time, and no power fails here.
    for name in ("sync_tree", "sync_folder"):
        monkeypatch.setattr(f"trimtab_storage.artifacts.{name}", lambda folder: None)
    return points


def impossible(rng: random.Random) -> dict[str, str]:
    """Limits that nothing meets: of the cost, of the drop, or of both."""
    what = rng.choice(["budget", "drop", "both"])
    # The dense model is at no drop and all its cost; every rung costs some drop.
    flops = rng.uniform(10, 95) if what == "drop" else rng.uniform(0.0001, 0.9)
    drop = rng.uniform(0, 20) if what == "budget" else 0.0
    return {"budget__flops": f"{flops:.5f}%", "max_drop": f"{drop:.3f} pt"}


@pytest.mark.slow
def test_whatever_cannot_be_met_the_closest_model_is_delivered(
    lab: Any, delivered: list[Any], command: Any, rng: random.Random
) -> None:
    """Among random limits that nothing meets; the results of the trials are the same for all."""
    for number in range(INFEASIBLE):
        limits, trials = impossible(rng), rng.randint(1, 3)
        spec = lab.write_spec(name=f"hard-{number}", search__trials=trials, **limits)
        ran = command("run", spec, "--db", lab.db, "--quiet", "--json")
        assert ran.code == 3, (limits, ran.err)
        said = json.loads(ran.out)
        assert said["point"] == delivered[-1].id and said["enough"], limits
        assert len(delivered) == number + 1
        assert len(lab.trials(spec.stem)) == trials
        assert lab.problems(spec.stem) == []


def test_time_and_trials_are_not_overrun(
    bench: Any,
    fake: Any,
    hang: object,
    size: Callable[..., int],
    monkeypatch: Any,
    rng: random.Random,
) -> None:
    """Of slow trials those that began in time may end; those that hang are given the grace."""
    from trimtab.controller import _trials

    grace_s = 0.5
    monkeypatch.setattr(_trials, "GRACE_S", grace_s)
    for number in range(size(4, 30)):
        slow_s, hangs_at = rng.uniform(0.01, 0.2), rng.randrange(3, 8)
        began: list[float] = []

        def script(job: Any, nth: int, began: Any = began, at: int = hangs_at) -> Any:
            if isinstance(job, LadderJob):
                began.append(time.monotonic())
                time.sleep(slow_s)  # noqa: B023
                return hang if len(began) == at else None
            return None

        spec = bench.spec(name=f"late-{number}", search__trials=100, search__time="1 s")
        bench.run(fake(script, slots=2), spec)
        ended, study = time.monotonic(), bench.study(spec.name)
        states = bench.states(spec.name)
        assert states.count("complete") >= 1 and len(states) < 100
        # Counted from the last trial that was sent, for a slow machine may be late with that.
        assert ended - began[-1] < 1.0 + grace_s + 30
        assert study.lease_owner is None and "running" not in states
        assert bench.problems(spec.name) == []
