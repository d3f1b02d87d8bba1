"""Studies whose workers are played: the real controller on a real database, results by formula.

A played worker answers every job with numbers that a worker could have measured, and saves tiny
files where models would lie, since the controller reads and drops them. It does not sync them:
that is a worker's time, and what is measured here is the controller's.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from trimtab.controller import RunResult, SilentReporter, run_study
from trimtab.emission import Emission
from trimtab.spec import Spec
from trimtab_storage import Store
from trimtab_strategies.cost import EncoderShape, LengthHistogram
from trimtab_strategies.recipe import stable_key
from trimtab_workers.jobs import (
    BaselineJob,
    BaselineResult,
    LadderJob,
    MeasureJob,
    Measurement,
    RungResult,
    StatisticsJob,
    StatisticsResult,
    Survey,
    SurveyJob,
)

FLOPS, METRIC, PARAMS, ROWS = 1e9, 0.92, 10_000_000, 1000
STRATEGIES = ["fisher", "ltp", "acc", "early_exit"]
N_SETTINGS = {"ltp": 6, "acc": 6, "early_exit": 20}
"""How many settings of the knobs are stored of a model besides the one it comes with."""
TAKES = {"ltp": 0.7, "acc": 0.7, "early_exit": 0.8}
"""What a strategy that cannot aim leaves of the cost."""


def spec_of(folder: Path, name: str, trials: int, seed: int, **search: Any) -> Spec:
    """Gives a spec over all strategies whose time never runs out; more of its search by name."""
    sections = {
        "name": name,
        "model": "./model",
        "task": {
            "train": "train.tsv",
            "validation": "dev.tsv",
            "text": ["text"],
            "label": "label",
            "max_length": 128,
        },
        "budget": {"flops": "40%"},
        "max_drop": "1 pt",
        "search": {
            "strategies": STRATEGIES,
            "trials": trials,
            "time": "8760 h",
            "seed": seed,
            **search,
        },
        "workers": {"executor": "inline", "device": "cpu"},
        "output": "runs",
    }
    return Spec.from_mapping(sections, folder=folder)


@dataclass
class Workshop:
    """Makes what workers would give; of every model made it knows the cost and the drop."""

    made: dict[str, tuple[float, float]] = field(default_factory=dict)

    def value_of(self, job: Any) -> Any:
        """Gives the value of a job that went well; its files are saved."""
        match job:
            case SurveyJob():
                return _survey()
            case BaselineJob():
                self.made[job.key] = (1.0, 0.0)
                return BaselineResult(_save(job, job.key), _measured(1.0, 0.0, 0), None, 0.0)
            case MeasureJob():
                return _measured(1.0, 0.0, 0)
            case StatisticsJob():
                return StatisticsResult(_save(job, job.key), 0.0)
            case LadderJob():
                return [self._rung(job, rung, key) for rung, key in job.rungs]
        raise AssertionError(f"no played result for {job}")

    def _rung(self, job: LadderJob, rung: float, key: str) -> RungResult:
        cost, drop = self.made[job.parent_key]
        left = rung if job.strategy == "fisher" else TAKES[job.strategy] + _luck(key, 0.2)
        cost, drop = cost * left, drop + 0.02 * (1 - left) ** 2 + _luck(key, 0.02)
        self.made[key] = cost, drop
        aims = {"constraint": rung} if job.strategy == "fisher" else {}
        measured = _measured(cost, drop, N_SETTINGS.get(job.strategy, 0))
        return RungResult(key, {**dict(job.choices), **aims}, _save(job, key), measured, {}, 0.0)


def _luck(key: str, most: float) -> float:
    """Gives a number from 0 to ``most`` that depends on a key alone."""
    return most * int(stable_key("luck", key)[:8], 16) / 0x100000000


def _measured(cost: float, drop: float, n_settings: int) -> Measurement:
    shares = [1 - (at + 1) / (n_settings + 1) / 2 for at in range(n_settings)]
    settings = [
        {
            "knobs": {"exit_threshold": round(1 - share, 6)},
            "metric": METRIC - drop - 0.05 * (1 - share) ** 2,
            "flops": FLOPS * cost * share,
        }
        for share in shares
    ]
    return Measurement("search", METRIC - drop, ROWS, FLOPS * cost, PARAMS, settings)


def _save(job: Any, key: str) -> Any:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(key)

    with ExitStack() as stack:
        for name in ("sync_tree", "sync_folder"):
            stack.enter_context(patch(f"trimtab_storage.artifacts.{name}", lambda folder: None))
        return job.place.files.save(key, write)


def _survey() -> Survey:
    return Survey(
        model_fingerprint="model",
        data_fingerprint="data",
        family="bert",
        has_head=True,
        shape=EncoderShape.dense(768, 12, 12, 3072),
        histogram=LengthHistogram({32: ROWS}),
        labels=("no", "yes"),
        n_train=100_000,
        n_search=ROWS,
        n_certify=ROWS,
        n_rows=100_000 + 2 * ROWS,
        n_truncated=0,
        longest_allowed=128,
        model_bytes=1000,
    )


class AuditedStore(Store):
    """A store that counts how often the result of each trial is recorded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recorded: Counter[int] = Counter()
        self.handed_out: dict[int, float] = {}

    def complete_trial(self, lease: Any, trial_id: int, *rest: Any, **named: Any) -> list[int]:
        """Counts what was recorded, and only that."""
        ids = super().complete_trial(lease, trial_id, *rest, **named)
        self.recorded[trial_id] += 1
        return ids


def run_played(spec: Spec, store: Store, executor: Any) -> RunResult:
    """Runs a study to its end, but writes no checkpoint, for there is no model."""

    def emit(store: Any, study: Any, choice: Any, *rest: Any, **named: Any) -> Any:
        return Emission(Path(), choice.point, None)  # type: ignore[arg-type]

    with patch("trimtab.controller._run.emit_checkpoint", emit):
        return run_study(spec, store, lambda: executor, SilentReporter())


@contextmanager
def replaced(name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replaces what the modules of the controller know under a name by ``make`` of it.

    Raises:
        RuntimeError: if none of them knows it, so that nothing goes unmeasured in silence.
    """
    modules = [m for n, m in sys.modules.items() if n.startswith("trimtab.controller.")]
    holders = [module for module in modules if hasattr(module, name)]
    if not holders:
        raise RuntimeError(f"no module of trimtab.controller has {name!r} any more")
    replacement = make(getattr(holders[0], name))
    with ExitStack() as stack:
        for module in holders:
            stack.enter_context(patch.object(module, name, replacement))
        yield


@dataclass
class Stopwatch:
    """Adds up the seconds spent in what it times; ``last_s`` is what the last time took."""

    seconds: float = 0.0
    last_s: float = 0.0
    calls: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time of a block."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.last_s = time.perf_counter() - started_s
            self.seconds += self.last_s
            self.calls += 1

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Gives a function whose time is counted."""

        def run(*arguments: Any, **named: Any) -> Any:
            with self.running():
                return function(*arguments, **named)

        return run
