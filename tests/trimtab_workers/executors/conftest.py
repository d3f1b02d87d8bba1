from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from trimtab_workers.executors import Executor, Outcome


@pytest.fixture
def collect() -> Callable[[Executor, int], dict[int, Outcome]]:
    """Waits for so many outcomes; fails when a ticket comes twice or time runs out."""

    def run(executor: Executor, n: int, within_s: float = 60) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        end = time.monotonic() + within_s
        while len(outcomes) < n:
            assert time.monotonic() < end, f"only {len(outcomes)} of {n} outcomes: {outcomes}"
            for outcome in executor.wait(1):
                assert outcome.ticket not in outcomes, f"twice: {outcome}"
                outcomes[outcome.ticket] = outcome
        return outcomes

    return run


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until something is true."""

    def run(holds: Callable[[], bool], what: str, within_s: float = 30) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, f"not within {within_s} s: {what}"
            time.sleep(0.05)

    return run


@pytest.fixture
def start_script(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code as a process in a group of its own, and leaves nothing of it behind."""
    started: list[subprocess.Popen[str]] = []
    family: set[psutil.Process] = set()

    def start(code: str, *args: str, **environment: str) -> subprocess.Popen[str]:
        script = tmp_path / f"script{len(started)}.py"
        script.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(script), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
            # A shell's background job ignores Ctrl-C, and so would what the tests start there.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            family.update(psutil.Process(process.pid).children(recursive=True))
            process.kill()
        process.communicate()
    for member in family:
        if member.is_running():
            member.kill()
