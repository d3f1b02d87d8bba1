"""Every kind of place for artifacts, to run one test on all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage._objects import Objects
from trimtab_storage.artifacts import ArtifactFiles
from trimtab_storage.places import Artifacts
from trimtab_storage.remote import RemoteFiles

REMOTE_PLACES = ["file", "memory"]
"""S3 joins them where its client and an emulation of it are installed."""
if find_spec("s3fs") and find_spec("moto"):
    REMOTE_PLACES.append("s3")
BUCKET = "models"
SECRET = "canary-secret-access-key"


@dataclass
class TestedPlace:
    """One place for artifacts, as the machines see it that share it."""

    __test__ = False

    kind: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    bucket = BUCKET
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.other_machine()

    @property
    def url(self) -> str:
        """The place, as a user would write it."""
        if self.kind == "file":
            return f"file://{self.folder}/place"
        return f"{self.kind}://{BUCKET}/{self.name}"

    def files(self, owner: str = "study-1") -> Artifacts:
        """Gives the artifact files of an owner."""
        if self.kind == "local":
            return ArtifactFiles(self.folder / "artifacts", owner)
        return RemoteFiles(self.url, owner)

    def other_machine(self) -> None:
        """Goes on where nothing was brought from the place yet."""
        self.monkeypatch.setenv("TRIMTAB_CACHE", str(self.folder / uuid.uuid4().hex))

    def names(self) -> list[str]:
        """Gives the names of all files that lie in the place."""
        if self.kind == "local":
            paths = (self.folder / "artifacts").rglob("*")
            return [str(path) for path in paths if path.is_file()]
        return sorted(Objects(self.url).sizes())

    def find(self, ending: str) -> str:
        """Gives the name of the one file that ends so."""
        (found,) = [name for name in self.names() if name.endswith(ending)]
        return found

    def write(self, name: str, data: bytes) -> None:
        """Writes a file behind everybody's back."""
        if self.kind == "local":
            Path(name).write_bytes(data)
        else:
            self._fs.pipe_file(self._at(name), data)

    def remove(self, name: str) -> None:
        """Removes a file behind everybody's back."""
        if self.kind == "local":
            Path(name).unlink()
        else:
            self._fs.rm_file(self._at(name))

    @property
    def _fs(self) -> Any:
        return Objects(self.url)._fs

    def _at(self, name: str) -> str:
        return Objects(self.url)._at(name)


@contextmanager
def emulated_s3() -> Iterator[None]:
    """Runs a server that speaks S3, and lets clients find it as they find the real one."""
    moto = import_module("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "canary-access-key-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        Objects(f"s3://{BUCKET}")._fs.mkdir(BUCKET)
        try:
            yield
        finally:
            server.stop()
