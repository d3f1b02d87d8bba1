"""What every executor must do, and what the Ray one must do beyond it."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from trimtab_workers.errors import DataError
from trimtab_workers.executors import (
    Executor,
    ExecutorError,
    Outcome,
    Progress,
    WorkerContext,
    make_executor,
)

Collect = Callable[..., dict[int, Outcome]]


@dataclass(frozen=True)
class Square:
    x: int

    def run(self, context: WorkerContext) -> int:
        return self.x**2


@dataclass(frozen=True)
class Raise:
    error: Exception

    def run(self, context: WorkerContext) -> None:
        raise self.error


@dataclass(frozen=True)
class Exit:
    def run(self, context: WorkerContext) -> None:
        sys.exit("enough")


@dataclass(frozen=True)
class Count:
    def run(self, context: WorkerContext) -> tuple[int, int]:
        context.cache["n"] = context.cache.get("n", 0) + 1
        return os.getpid(), context.cache["n"]


@dataclass(frozen=True)
class Zeros:
    n_bytes: int

    def run(self, context: WorkerContext) -> np.ndarray:
        return np.zeros(self.n_bytes, dtype=np.uint8)


@dataclass(frozen=True)
class Device:
    def run(self, context: WorkerContext) -> str:
        return context.device


@dataclass(frozen=True)
class UntilFile:
    """Reports its process, then runs until a file appears."""

    path: str
    value: int = 0

    def run(self, context: WorkerContext) -> int:
        context.report(f"pid {os.getpid()}", 3, 10)
        while not os.path.exists(self.path):
            time.sleep(0.01)
        return self.value


@dataclass(frozen=True)
class Stubborn:
    """Ignores SIGTERM, has a child, and never lets go of the interpreter's lock."""

    path: str

    def run(self, context: WorkerContext) -> None:
        child = subprocess.Popen(["sleep", "1000"])
        Path(self.path).write_text(str(child.pid))
        ctypes.CDLL(None).signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(1000)


@dataclass(frozen=True)
class Die:
    how: str

    def run(self, context: WorkerContext) -> None:
        if self.how == "exit":
            os._exit(3)
        if self.how == "segmentation fault":
            ctypes.string_at(0)
        os.abort()


@dataclass(frozen=True)
class Unsendable:
    def run(self, context: WorkerContext) -> Any:
        return threading.Lock()


@dataclass(frozen=True)
class Threads:
    def run(self, context: WorkerContext) -> tuple[str, int]:
        import torch

        return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()


@dataclass(frozen=True)
class Share:
    """Makes an array for all, unless another worker did; says who made it and who reads it."""

    name: str

    def run(self, context: WorkerContext) -> tuple[int, int, float, bool]:
        def make() -> tuple[int, NDArray[np.float64]]:
            return os.getpid(), np.arange(1_000_000.0)

        maker, array = context.shared(self.name, make)
        return maker, os.getpid(), float(array[-1]), array.flags.writeable


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[Executor]:
    with make_executor("ray", count=2, gpus_each=0, device="cpu", address=None) as executor:
        import ray

        # A worker cannot import test modules.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield executor


@pytest.fixture
def pool(shared_ray: Executor, collect: Collect) -> Iterator[Executor]:
    """The shared Ray executor, with nothing in it before and after."""
    yield shared_ray
    last = shared_ray.submit(Square(0))
    # A worker that was killed may still be starting again, and says nothing meanwhile.
    is_last_seen = False
    while not is_last_seen or shared_ray.progress():
        is_last_seen |= any(outcome.ticket == last for outcome in shared_ray.wait(0.1))


@pytest.fixture(params=["inline", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        yield request.getfixturevalue("pool")
    else:
        with make_executor("inline", count=1, gpus_each=0, device="cpu", address=None) as inline:
            yield inline


class TestEveryExecutor:
    def test_gives_the_value_of_a_job(self, executor: Executor, collect: Collect) -> None:
        ticket = executor.submit(Square(7))
        assert collect(executor, 1) == {ticket: Outcome(ticket, value=49)}

    def test_gives_one_outcome_for_each_of_many_jobs(
        self, executor: Executor, collect: Collect
    ) -> None:
        tickets = {executor.submit(Square(x)): x for x in range(200)}
        assert len(tickets) == 200
        outcomes = collect(executor, 200)
        assert {t: o.value for t, o in outcomes.items()} == {t: x**2 for t, x in tickets.items()}
        assert executor.wait(0.2) == []

    def test_does_not_block_when_nothing_is_to_be_done(self, executor: Executor) -> None:
        start = time.monotonic()
        assert executor.wait(20) == []
        assert time.monotonic() - start < 5

    def test_an_exception_becomes_one_line_and_a_traceback(
        self, executor: Executor, collect: Collect
    ) -> None:
        ticket = executor.submit(Raise(KeyError("first\nsecond")))
        executor.submit(Raise(RuntimeError("\n  first  \nsecond")))
        failures = {t: o.failure for t, o in collect(executor, 2).items()}
        assert {f.reason for f in failures.values() if f} == {"error"}
        assert failures[ticket] and failures[ticket].message == "KeyError: 'first\\nsecond'"
        other = failures[ticket + 1]
        assert other and other.message == "RuntimeError: first"
        assert "Traceback" in other.detail and "in run" in other.detail

    def test_a_fault_of_the_user_is_told_in_its_own_words(
        self, executor: Executor, collect: Collect
    ) -> None:
        ticket = executor.submit(Raise(DataError("column 'x' is not there; use one of a, b")))
        failure = collect(executor, 1)[ticket].failure
        assert failure and failure.reason == "input"
        assert failure.message == "column 'x' is not there; use one of a, b"

    def test_memory_errors_are_told_apart(self, executor: Executor, collect: Collect) -> None:
        import torch

        host = executor.submit(Raise(MemoryError()))
        device = executor.submit(Raise(torch.OutOfMemoryError("CUDA out of memory. Tried …")))
        reasons = {t: o.failure and o.failure.reason for t, o in collect(executor, 2).items()}
        assert reasons == {host: "oom_host", device: "oom_device"}

    def test_a_job_that_exits_python_has_failed_and_the_worker_lives(
        self, executor: Executor, collect: Collect
    ) -> None:
        before = executor.worker_pids()
        ticket = executor.submit(Exit())
        failure = collect(executor, 1)[ticket].failure
        assert failure and (failure.reason, failure.message) == ("error", "SystemExit: enough")
        assert executor.worker_pids() == before

    def test_reports_are_seen_while_the_job_runs(
        self, executor: Executor, collect: Collect, tmp_path: Path
    ) -> None:
        release = tmp_path / "go"
        seen: list[dict[int, Progress]] = []

        def look() -> None:
            end = time.monotonic() + 20
            while not seen and time.monotonic() < end:
                if now := executor.progress():
                    seen.append(now)
                time.sleep(0.01)
            release.touch()

        ticket = executor.submit(UntilFile(str(release), value=5))
        watcher = threading.Thread(target=look)
        watcher.start()
        assert collect(executor, 1)[ticket].value == 5
        watcher.join()
        ((reported, progress),) = seen[0].items()
        assert reported == ticket
        assert progress.stage.startswith("pid ") and (progress.done, progress.total) == (3, 10)
        assert executor.progress() == {}

    def test_the_cache_lasts_as_long_as_the_worker(
        self, executor: Executor, collect: Collect
    ) -> None:
        for _ in range(20):
            executor.submit(Count())
        counts: dict[int, list[int]] = {}
        for outcome in collect(executor, 20).values():
            pid, n = outcome.value
            counts.setdefault(pid, []).append(n)
        assert set(counts) <= set(executor.worker_pids())
        for ns in counts.values():
            assert sorted(ns) == list(range(min(ns), min(ns) + len(ns)))

    def test_big_values_arrive_whole_and_can_be_changed(
        self, executor: Executor, collect: Collect
    ) -> None:
        ticket = executor.submit(Zeros(20_000_000))
        value = collect(executor, 1)[ticket].value
        assert value.shape == (20_000_000,) and not value.any()
        value[0] = 1

    def test_hands_the_device_on(self, executor: Executor, collect: Collect) -> None:
        ticket = executor.submit(Device())
        assert collect(executor, 1)[ticket].value == "cpu"

    def test_a_cancelled_job_ends_and_the_others_do_not(
        self, executor: Executor, collect: Collect, tmp_path: Path
    ) -> None:
        kept = executor.submit(Square(3))
        given_up = executor.submit(UntilFile(str(tmp_path / "never")))
        executor.cancel(given_up)
        executor.cancel(given_up)
        executor.cancel(987_654)
        outcomes = collect(executor, 2)
        assert outcomes[kept].value == 9
        failure = outcomes[given_up].failure
        assert failure and failure.reason == "cancelled"
        assert executor.wait(0.2) == []


def test_a_value_that_cannot_be_taken_over_costs_nothing_but_that(
    pool: Executor, collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def refuse(value: Any) -> Any:
        raise MemoryError("no")

    with monkeypatch.context() as patch:
        patch.setattr(ray, "put", refuse)
        for _ in range(4):
            pool.submit(Share("too much"))
        outcomes = collect(pool, 4).values()
    assert all(outcome.value[2:] == (999_999.0, True) for outcome in outcomes)


def test_what_a_worker_made_for_all_is_read_by_the_others_even_when_it_is_dead(
    pool: Executor, collect: Collect, until: Callable[..., None]
) -> None:
    first = pool.submit(Share("rows"))
    maker, reader, last, is_own = collect(pool, 1)[first].value
    assert (maker, last, is_own) == (reader, 999_999.0, True)
    for _ in range(2):
        for _ in range(20):
            pool.submit(Share("rows"))
        seen = [outcome.value for outcome in collect(pool, 20).values()]
        assert {(value[0], value[2]) for value in seen} == {(maker, last)}
        assert not any(is_own for _, _, _, is_own in seen), "the store's, not copies"
        if psutil.pid_exists(maker):
            os.kill(maker, signal.SIGKILL)
            until(lambda: not pool.wait(0.1) and maker not in pool.worker_pids(), "it is replaced")
            assert not psutil.pid_exists(maker)


@pytest.mark.parametrize("kind", ["inline", "ray"])
def test_a_closed_executor_says_so(kind: str, shared_ray: Executor) -> None:
    if kind == "inline":
        executor = make_executor("inline", count=1, gpus_each=0, device="cpu", address=None)
    else:
        from trimtab_workers.executors._ray import RayExecutor

        # Takes no CPU, so that it has room beside the shared one, whose connection it uses.
        executor = RayExecutor(1, cpus_each=0, device="cpu")
    executor.submit(Square(1))
    executor.close()
    executor.close()
    assert executor.worker_pids() == []
    with pytest.raises(ExecutorError, match="closed; make a new one"):
        executor.submit(Square(1))
    with pytest.raises(ExecutorError, match="closed; make a new one"):
        executor.wait(1)


def test_the_connection_of_another_is_left_open(pool: Executor, collect: Collect) -> None:
    from trimtab_workers.executors._ray import RayExecutor

    with RayExecutor(1, cpus_each=0, device="cpu") as second:
        second.submit(Square(2))
        assert [o.value for o in collect(second, 1).values()] == [4]
        (pid,) = second.worker_pids()
        assert pid not in pool.worker_pids()
    pool.submit(Square(3))
    assert [o.value for o in collect(pool, 1).values()] == [9]
    assert not psutil.pid_exists(pid)


@pytest.mark.slow
def test_twenty_workers_killed_in_mid_job_cost_one_job_each(
    pool: Executor, collect: Collect, tmp_path: Path, rng: random.Random
) -> None:
    for turn in range(20):
        release = tmp_path / f"go{turn}"
        victim = pool.submit(UntilFile(str(tmp_path / "never")))
        others = {pool.submit(UntilFile(str(release), value=i)): i for i in range(3)}
        while victim not in pool.progress():
            assert pool.wait(0.1) == []
        time.sleep(rng.uniform(0, 0.05))
        os.kill(int(pool.progress()[victim].stage.removeprefix("pid ")), signal.SIGKILL)
        release.touch()
        outcomes = collect(pool, 4)
        assert {t: outcomes[t].value for t in others} == others
        failure = outcomes[victim].failure
        assert failure and failure.reason == "crashed"
        assert "\n" not in failure.message and "died while it ran the job" in failure.message
    _wait_for_full_pool(pool)


def test_an_idle_worker_that_dies_is_replaced_and_costs_nothing(
    pool: Executor, collect: Collect
) -> None:
    _wait_for_full_pool(pool)
    for pid in pool.worker_pids():
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([p for p in psutil.process_iter() if p.pid == pid], timeout=5)
    time.sleep(1)  # Ray has to notice; a job sent before it does is lost with the worker
    assert pool.wait(0) == []
    tickets = [pool.submit(Square(x)) for x in range(4)]
    outcomes = collect(pool, 4)
    assert [outcomes[t].value for t in tickets] == [0, 1, 4, 9]


@pytest.mark.parametrize("how", ["exit", "segmentation fault", "abort"])
def test_a_job_that_ends_its_process_has_crashed(
    pool: Executor, collect: Collect, how: str
) -> None:
    poison = pool.submit(Die(how))
    healthy = pool.submit(Square(5))
    outcomes = collect(pool, 2)
    failure = outcomes[poison].failure
    assert failure and failure.reason == "crashed"
    assert outcomes[healthy].value == 25
    if how == "segmentation fault":
        assert "Segmentation fault" in failure.detail


def test_a_job_that_ignores_sigterm_ends_at_its_time_limit_with_its_children(
    pool: Executor, collect: Collect, tmp_path: Path, until: Callable[..., None]
) -> None:
    note = tmp_path / "child"
    ticket = pool.submit(Stubborn(str(note)), timeout_s=1.5)
    start = time.monotonic()
    failure = collect(pool, 1)[ticket].failure
    assert 1.4 < time.monotonic() - start < 11.5
    assert failure and failure.reason == "timeout" and "1.5 s" in failure.message
    child = int(note.read_text())
    until(lambda: not psutil.pid_exists(child), "the job's child is gone", 5)


def test_a_stopped_worker_ends_at_its_time_limit(
    pool: Executor, collect: Collect, tmp_path: Path
) -> None:
    ticket = pool.submit(UntilFile(str(tmp_path / "never")), timeout_s=2)
    while ticket not in pool.progress():
        assert pool.wait(0.1) == []
    pid = int(pool.progress()[ticket].stage.removeprefix("pid "))
    os.kill(pid, signal.SIGSTOP)
    failure = collect(pool, 1)[ticket].failure
    assert failure and failure.reason == "timeout"
    assert not psutil.pid_exists(pid)


def test_time_in_the_queue_does_not_count(pool: Executor, collect: Collect, tmp_path: Path) -> None:
    release = tmp_path / "go"
    for _ in range(2):
        pool.submit(UntilFile(str(release)))
    queued = pool.submit(Square(4), timeout_s=1)
    assert pool.wait(1.5) == []
    release.touch()
    assert collect(pool, 3)[queued].value == 16


def test_what_cannot_be_pickled_fails_and_the_worker_lives(
    pool: Executor, collect: Collect
) -> None:
    _wait_for_full_pool(pool)
    before = set(pool.worker_pids())
    pool.submit(Unsendable())
    pool.submit(Raise(threading.Lock()))  # type: ignore[arg-type]
    for outcome in collect(pool, 2).values():
        assert outcome.failure and outcome.failure.reason == "error"
        assert "could not be sent between processes: TypeError" in outcome.failure.message
        assert "\x1b" not in outcome.failure.detail
    assert set(pool.worker_pids()) == before


@pytest.mark.parametrize("threads", [None, 1])
def test_workers_share_the_cores_or_take_the_threads_chosen(
    shared_ray: Executor, collect: Collect, threads: int | None
) -> None:
    from trimtab_workers.executors._ray import RayExecutor

    expected = threads or len(os.sched_getaffinity(0))
    with RayExecutor(1, cpus_each=0, device="cpu", threads=threads) as executor:
        ticket = executor.submit(Threads())
        assert collect(executor, 1)[ticket].value == (str(expected), expected)


@pytest.mark.parametrize(
    ("n_gpus", "slots"), [(0.0, None), (0.4, None), (0.5, 1), (1.0, 2), (1.5, 3), (4.0, 3)]
)
def test_there_are_no_more_workers_than_the_gpus_of_this_machine_are_enough_for(
    shared_ray: Executor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    n_gpus: float,
    slots: int | None,
) -> None:
    from trimtab_workers.executors import _ray

    class Embedded(_ray.Cluster):
        def __init__(self, address: str | None, n_cpus: float) -> None:
            super().__init__(address, n_cpus)
            self.embedded = True

        def n_gpus(self) -> float:
            return n_gpus

    monkeypatch.setattr(_ray, "Cluster", Embedded)
    if slots is None:
        with pytest.raises(ExecutorError, match=r"needs 0.5 GPUs.* has 0.*; set gpus_each: 0"):
            _ray.RayExecutor(3, gpus_each=0.5, cpus_each=0, device="cpu")
        return
    with _ray.RayExecutor(3, gpus_each=0.5, cpus_each=0, device="cpu") as executor:
        assert executor.slots == slots
    assert ("going on with" in caplog.text) == (slots < 3)


class Broken:
    def __init__(self, device: str, threads: int, marks: object) -> None:
        raise RuntimeError("trimtab is not installed here")

    def watch(self, seen: int) -> None: ...


def test_workers_that_cannot_start_are_an_error_and_no_endless_loop(
    shared_ray: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from trimtab_workers.executors import _ray, _seat

    monkeypatch.setattr(_seat, "_ACTOR", ray.remote(max_concurrency=2)(Broken))
    with _ray.RayExecutor(1, cpus_each=0, device="cpu") as executor:
        executor.submit(Square(1))
        with pytest.raises(ExecutorError, match=r"3 in a row(.|\n)*trimtab is not installed here"):
            executor.wait(30)


@pytest.mark.parametrize("numbers", [{"count": 0}, {"gpus_each": -1}, {"threads": 0}])
def test_numbers_out_of_range_are_refused(numbers: dict[str, int]) -> None:
    settings = {"count": 1, "gpus_each": 0.0, "threads": None, **numbers}
    with pytest.raises(ValueError, match=r"but got .*(0|-1)"):
        make_executor("ray", device="cpu", address=None, **settings)  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="one of inline, ray, but got 'dask'"):
        make_executor("dask", count=1, gpus_each=0, device="cpu", address=None)


def _wait_for_full_pool(pool: Executor) -> None:
    end = time.monotonic() + 20
    while len(pool.worker_pids()) < pool.slots or not all(map(_lives, pool.worker_pids())):
        assert time.monotonic() < end, f"workers: {pool.worker_pids()}"
        # Only `wait` looks after the workers, and only while there is something to wait for.
        pool.submit(Square(0))
        while not pool.wait(1):
            pass
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
