"""What the system knows of waiting for a processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trimtab_workers.latency import _waiting


def proc(folder: Path, counts: dict[str, str]) -> Path:
    for task, line in counts.items():
        (folder / "task" / task).mkdir(parents=True)
        (folder / "task" / task / "schedstat").write_text(line)
    (folder / "schedstat").write_text("123 456 7\n")
    return folder / "task"


def test_waits_of_all_threads_are_added(tmp_path: Path, monkeypatch: Any) -> None:
    tasks = proc(tmp_path, {"1": "5 1500000000 3\n", "2": "5 500000000 3\n"})
    (tasks / "3").mkdir()  # it has just ended
    monkeypatch.setattr(_waiting, "TASKS", tasks)
    assert _waiting.find_waits("cuda") is _waiting.counted_waits_s
    assert _waiting.counted_waits_s() == 2.0


@pytest.mark.parametrize("line", [None, "0 0 0\n", ""])
def test_where_nothing_is_counted_the_processor_alone_can_tell(
    line: str | None, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_waiting, "TASKS", tmp_path / "task")
    if line is not None:
        (tmp_path / "schedstat").write_text(line)
    assert _waiting.find_waits("cuda") is None
    waits = _waiting.find_waits("cpu")
    assert waits is not None and waits is not _waiting.counted_waits_s
    before = waits()
    assert waits() >= before - 0.01


def test_it_works_here() -> None:
    waits = _waiting.find_waits("cpu")
    assert waits is not None and waits() >= 0
