from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("trimtab_storage.testing")

from trimtab_storage import Lease, Store, StudyRow  # noqa: E402
from trimtab_storage.testing import REMOTE_PLACES, TestedPlace, emulated_s3  # noqa: E402


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trimtab.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def study(store: Store) -> StudyRow:
    return store.create_study("reviews", {"seed": 0}, {}, {})


@pytest.fixture
def lease(store: Store, study: StudyRow) -> Lease:
    return store.acquire(study.id, "one", 60.0)


class Child:
    """A forked child process; give it work that opens its own store."""

    def __init__(self, work: Callable[[], None]) -> None:
        # A fork starts in milliseconds, so that kills can come in any phase of the work.
        self._process = multiprocessing.get_context("fork").Process(target=work)
        self._process.start()

    def signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def exit_code(self) -> int | None:
        self._process.join(60)
        return self._process.exitcode


@pytest.fixture
def child() -> Iterator[Callable[[Callable[[], None]], Child]]:
    started: list[Child] = []

    def start(work: Callable[[], None]) -> Child:
        started.append(Child(work))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "waited 60 s in vain"
            time.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def s3() -> Iterator[None]:
    with emulated_s3():
        yield


@pytest.fixture(params=["local", *REMOTE_PLACES])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TestedPlace:
    if request.param == "s3":
        request.getfixturevalue("s3")
    return TestedPlace(request.param, tmp_path, monkeypatch)


@pytest.fixture(params=REMOTE_PLACES)
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TestedPlace:
    if request.param == "s3":
        request.getfixturevalue("s3")
    return TestedPlace(request.param, tmp_path, monkeypatch)
