"""A canary that sings when code in an input runs, and commands that must refuse the input."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Canary:
    """Code that leaves a file and calls out when it runs, and what came of it."""

    file: Path
    calls: list[Any] = field(default_factory=list)

    @property
    def code(self) -> str:
        return (
            f"open({str(self.file)!r}, 'w').close()\n"
            "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)\n"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (self.code,))

    def pickled(self, protocol: int = 2) -> bytes:
        return pickle.dumps(self, protocol=protocol)

    def saved_by_torch(self) -> bytes:
        import torch

        stream = io.BytesIO()
        torch.save({"weight": self}, stream)
        return stream.getvalue()

    def saved_by_numpy(self) -> bytes:
        import numpy

        stream = io.BytesIO()
        numpy.save(stream, numpy.array([self], dtype=object), allow_pickle=True)
        return stream.getvalue()

    def rewrite(self, file: Path, changes: Any) -> None:
        """Changes a JSON file, and puts the modules that it may name beside it."""
        there = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**there, **changes}))
        for module in ("modeling_x.py", "tokenization_x.py", "configuration_x.py"):
            (file.parent / module).write_text(self.code)

    def silent(self) -> bool:
        return not self.file.exists() and not self.calls


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    made = Canary(tmp_path / "canary")

    def called(*arguments: Any, **options: Any) -> Any:
        made.calls.append(arguments)
        raise OSError("no network here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, called)
    monkeypatch.setattr(socket, "getaddrinfo", called)
    return made


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from trimtab.starter import write_template

    folder = tmp_path_factory.mktemp("starter")
    write_template("starter", folder / "spec.yaml")
    return folder


@pytest.fixture
def study(starter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(starter, tmp_path / "study"))


@pytest.fixture
def refused(command: Callable[..., Any], canary: Canary) -> Iterator[Callable[..., None]]:
    """Runs a command that must end in one clear line."""

    def run(message: str, *arguments: object) -> None:
        ran = command(*arguments)
        assert (ran.code, ran.out) == (2, ""), ran
        first, *rest = ran.err.splitlines()
        assert re.search(message, first), first
        # The line of the spec and the mark below it may follow.
        assert len(rest) in (0, 2) and "Traceback" not in ran.err
        assert canary.silent()

    yield run
    assert canary.silent()
