"""Studies whose workers are played by a script: no model, no torch, results by formula."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.controller import RunResult, SilentReporter, run_study
from trimtab.controller._spending import Spending
from trimtab.emission import Emission
from trimtab.spec import Spec
from trimtab_storage import PointRow, Store, StudyRow, TrialRow, check_invariants
from trimtab_strategies.cost import EncoderShape, LengthHistogram
from trimtab_workers.executors import Executor, Failure, Outcome, Progress
from trimtab_workers.jobs import (
    BaselineJob,
    BaselineResult,
    BenchJob,
    BenchResult,
    LadderJob,
    MeasureJob,
    Measurement,
    RungResult,
    StatisticsJob,
    StatisticsResult,
    Survey,
    SurveyJob,
    TableJob,
)
from trimtab_workers.latency.summary import summarise
from trimtab_workers.latency.table import LatencyTable, Surface
from trimtab_workers.latency.workload import Workload

FLOPS, METRIC, ROWS = 1e6, 0.9, 100
DENSE_MS, N_TIMED = 10.0, 80
HANG = object()
"""What a script answers for a job that is to run on and on."""

Script = Callable[[Any, int], Any]


def survey(**changes: Any) -> Survey:
    """What the fake workers find in the user's files."""
    facts: dict[str, Any] = {
        "model_fingerprint": "model-1",
        "data_fingerprint": "data-1",
        "family": "bert",
        "has_head": True,
        "shape": EncoderShape.dense(32, 2, 4, 64),
        "histogram": LengthHistogram({10: ROWS}),
        "labels": ("no", "yes"),
        "n_train": 5000,
        "n_search": ROWS,
        "n_certify": ROWS,
        "n_rows": 5000 + 2 * ROWS,
        "n_truncated": 0,
        "longest_allowed": 64,
        "model_bytes": 1000,
    }
    return Survey(**{**facts, **changes})


def drop_of(choices: dict[str, Any], rung: float) -> float:
    """A drop that grows as the cost falls, and is least with all the rows at the best tuning.

    Both tunings are best at ten times what is recommended: ridge 0.1 and damping 10.
    """
    from math import log10

    best = {"ridge": 0.1, "damping": 10.0}
    far = [abs(log10(choices[name] / best[name])) for name in best if name in choices]
    tuned = far[0] / 50 if far else 0.1
    rows = 1 / choices["calibration"] if "calibration" in choices else 0.0
    return 0.2 * (1 - rung) ** 2 + tuned + rows


def result_of(job: Any) -> Any:
    """What a worker gives when nothing goes wrong; the files are really saved."""
    match job:
        case SurveyJob():
            return survey()
        case BaselineJob():
            return BaselineResult(_save(job), _measured(1.0, METRIC), None, 0.1)
        case MeasureJob():
            return _measured(1.0, METRIC)
        case StatisticsJob():
            return StatisticsResult(_save(job), 0.1)
        case LadderJob():
            return [_rung(job, rung, key) for rung, key in job.rungs]
        case TableJob():
            return _table(job.workload).to_plain()
        case BenchJob():
            return [timed(job, RATIOS.get(one.key, 1.0)) for one in job.candidates]
    raise AssertionError(f"no fake result for {job}")


RATIOS: dict[str, float] = {}
"""The cost of each model made, which its time follows."""


def timed(job: BenchJob, ratio: float, *, speed: float = 1.0, verdict: Any = None) -> BenchResult:
    """What a model takes: a tenth of the dense model's time, and the rest by its cost."""
    requests = DENSE_MS * speed * np.linspace(0.5, 1.5, N_TIMED)[:, None] * np.ones(8)
    ours = requests * (0.1 + 0.9 * ratio)
    latency = summarise(
        ours,
        requests,
        job.statistic,
        batch_size=job.workload.batch_size,
        reference_p50_ms=job.reference_p50_ms,
    )
    if verdict is not None:
        said = {"verdict": verdict, "reason": "it is played"}
        figures = {name: {**known, **said} for name, known in latency.figures.items()}
        latency = replace(latency, **said, figures=figures)
    ratio = None
    if job.is_both:
        size = job.workload.batch_size
        ratio = summarise(ours, requests, job.statistic, batch_size=size, is_relative=True)
    return BenchResult(latency, {"ours": ours.tolist(), "baseline": requests.tolist()}, ratio)


def _table(workload: Workload) -> LatencyTable:
    """Parts that together take as long as the dense model, in proportion to what is left."""
    nothing = Surface.through({1.0: [(1.0, 0.0), (100.0, 0.0)]})
    names = ("front", "asked/none", "asked/last", "attended", "head", "leave")
    groups = ("few/none", "few/last", "many/none", "many/last")
    fed = Surface.through(
        {n: [(1.0, n * DENSE_MS / 128), (1e4, n * DENSE_MS / 128)] for n in (0.0, 64.0)}
    )
    parts = {**dict.fromkeys((*names, *groups), nothing), "fed": fed}
    return LatencyTable("cpu", "float32", 1, workload.batch_size, 32, 8, 4e6, False, parts)


def _rung(job: LadderJob, rung: float, key: str) -> RungResult:
    RATIOS[key] = rung
    choices = dict(job.choices)
    measured = _measured(rung, METRIC - drop_of(choices, rung))
    stored = job.place.files.save(key, lambda folder: _write(folder, key))
    return RungResult(key, {**choices, "constraint": rung}, stored, measured, {}, 0.1)


def _save(job: Any) -> Any:
    return job.place.files.save(job.key, lambda folder: _write(folder, job.key))


def _write(folder: Path, text: str) -> None:
    (folder / "model.safetensors").write_text(text)


def _measured(ratio: float, metric: float) -> Measurement:
    return Measurement("search", metric, ROWS, ratio * FLOPS, int(1000 * ratio))


def _work_of(job: Any) -> Any:
    # Statistics are one piece of work for all trials that share them.
    return type(job), job.key if isinstance(job, StatisticsJob) else job


class FakeExecutor(Executor):
    """Gives each job the outcome that a script says, in the order in which they were sent.

    The script is asked with the job and how often the same work was sent before; None means that
    all goes well, an exception is raised out of `wait`.
    """

    def __init__(self, script: Script | None = None, slots: int = 1) -> None:
        self.slots = slots
        self.sent: list[Any] = []
        self.closed = False
        self.timeouts: list[float | None] = []
        self._script = script or (lambda job, nth: None)
        self._queue: deque[tuple[int, Any, Any]] = deque()
        self._done: list[Outcome] = []

    def submit(self, job: Any, *, timeout_s: float | None = None) -> int:
        answer = self._script(job, sum(_work_of(sent) == _work_of(job) for sent in self.sent))
        self.sent.append(job)
        self.timeouts.append(timeout_s)
        self._queue.append((len(self.sent), job, answer))
        return len(self.sent)

    def wait(self, timeout_s: float) -> list[Outcome]:
        if not self._done:
            self._work()
        if not self._done:
            time.sleep(min(timeout_s, 0.01))
        outcomes, self._done = self._done, []
        return outcomes

    def _work(self) -> None:
        running = list(self._queue)[: self.slots]
        for entry in running:
            ticket, job, answer = entry
            if answer is HANG:
                continue
            self._queue.remove(entry)
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, Failure):
                self._done.append(Outcome(ticket, failure=answer))
            else:
                self._done.append(Outcome(ticket, result_of(job) if answer is None else answer))
            return

    def progress(self) -> dict[int, Progress]:
        return {}

    def cancel(self, ticket: int) -> None:
        kept = deque(entry for entry in self._queue if entry[0] != ticket)
        if len(kept) < len(self._queue):
            self._done.append(Outcome(ticket, failure=Failure("cancelled", "cancelled")))
        self._queue = kept

    def worker_pids(self) -> list[int]:
        return []

    def close(self) -> None:
        self.closed = True

    def count(self, kind: type) -> int:
        """Counts the jobs of one kind that were sent."""
        return sum(isinstance(job, kind) for job in self.sent)


@dataclass
class Bench:
    """A folder with a database, in which studies of fake workers are run."""

    folder: Path
    store: Store
    reporter: SilentReporter = field(default_factory=SilentReporter)
    emitted: list[PointRow] = field(default_factory=list)

    def spec(self, **changes: Any) -> Spec:
        """A small spec; a change is named by its dotted place, with `__` for the dot."""
        mapping: dict[str, Any] = {
            "name": "reviews",
            "model": "./bert",
            "task": {
                "train": "train.tsv",
                "validation": "dev.tsv",
                "text": ["text"],
                "label": "label",
                "max_length": 64,
            },
            "budget": {"flops": "50%"},
            "max_drop": "10 pt",
            "search": {"strategies": ["fisher"], "trials": 4, "time": "10 min", "seed": 0},
            "workers": {"executor": "inline", "device": "cpu"},
            "output": "runs",
        }
        for name, value in changes.items():
            *sections, key = name.split("__")
            target = mapping
            for section in sections:
                target = target.setdefault(section, {})
            target[key] = value
        return Spec.from_mapping(mapping, folder=self.folder)

    def run(
        self,
        executor: FakeExecutor | None = None,
        spec: Spec | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> RunResult:
        """Runs or continues a study; the checkpoint is only noted in `emitted`."""
        chosen = executor or FakeExecutor()
        return run_study(spec or self.spec(), self.store, lambda: chosen, self.reporter, stop)

    def study(self, name: str = "reviews") -> StudyRow:
        row = self.store.study(name)
        assert row is not None
        return row

    def trials(self, name: str = "reviews") -> list[TrialRow]:
        return self.store.trials(self.study(name).id)

    def states(self, name: str = "reviews") -> list[str]:
        """The states of all trials, by number."""
        return [str(trial.state) for trial in self.trials(name)]

    def recipes(self, name: str = "reviews") -> list[Any]:
        return [trial.recipe for trial in self.trials(name)]

    def problems(self, name: str = "reviews") -> list[str]:
        return check_invariants(self.store, self.study(name).id)

    def contents(self) -> tuple[Any, ...]:
        """Everything that the database holds, but for the leases."""
        studies = [
            {**vars(row), "lease_owner": None, "lease_expires": None, "fence": 0}
            for row in self.store.studies()
        ]
        rows = [(self.store.trials(s["id"]), self.store.points(s["id"], None)) for s in studies]
        return studies, rows, self.store.artifacts()


@pytest.fixture
def make_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Bench]]:
    """Makes benches, each with a database of its own: `make_bench("other")`."""
    benches: list[Bench] = []

    def emit(store, study, choice, forge, out, **options):  # type: ignore[no-untyped-def]
        (owner,) = (bench for bench in benches if bench.store.url == store.url)
        owner.emitted.append(choice.point)
        return Emission(out, choice.point, None)  # type: ignore[arg-type]

    monkeypatch.setattr("trimtab.controller._run.emit_checkpoint", emit)
    # Played timing takes none of a study's time, unless a test has another clock: how it compares
    # with played training would be chance, and with it what is timed.
    monkeypatch.setattr(Spending.__init__, "__defaults__", (lambda: 0.0,))
    with ExitStack() as stores:

        def make(name: str) -> Bench:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            url = f"sqlite:///{folder}/trimtab.db"
            store = stores.enter_context(Store.open(url, controller=True))
            benches.append(Bench(folder, store))
            return benches[-1]

        yield make


@pytest.fixture
def bench(make_bench: Callable[[str], Bench]) -> Bench:
    return make_bench("")


@pytest.fixture
def fake() -> type[FakeExecutor]:
    """The executor that a script plays: `fake(script, slots=2)`."""
    return FakeExecutor


@pytest.fixture
def hang() -> object:
    """What a script answers for a job that is to run on and on."""
    return HANG


@pytest.fixture
def play_timed() -> Callable[..., BenchResult]:
    """What timing a model gives: `play_timed(job, ratio, speed=2.0, verdict="unstable")`."""
    return timed


@pytest.fixture
def ratio_of() -> Callable[[str], float]:
    """The cost of a model that was made, by its key."""
    return lambda key: RATIOS.get(key, 1.0)


@pytest.fixture
def make_survey() -> Callable[..., Survey]:
    return survey


@pytest.fixture
def value_of() -> Callable[[Any], Any]:
    """What a worker gives for a job when nothing goes wrong."""
    return result_of
