"""What jobs find where they run: artifact files in a folder, and a worker's context."""

from __future__ import annotations

from pathlib import Path

import pytest

from trimtab_workers.executors import WorkerContext
from trimtab_workers.latency import _taking_turns


class Files:
    """A folder of artifacts by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def context() -> WorkerContext:
    return WorkerContext("cpu", lambda *_: None)


@pytest.fixture(autouse=True)
def own_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what others on this host are timing."""
    monkeypatch.setattr(_taking_turns, "turn_file", lambda device: tmp_path / f"{device}.lock")
