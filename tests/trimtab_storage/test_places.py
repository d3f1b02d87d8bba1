"""Which places may be, what databases know of them, and what is told of credentials."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import (
    ArtifactError,
    InvalidValueError,
    RemoteFiles,
    StorageError,
    Store,
    StoredFile,
)
from trimtab_storage._objects import Objects
from trimtab_storage.testing import TestedPlace, make_artifact

KEY = "ab" * 16


def write(folder: Path) -> None:
    for number in range(5):
        (folder / f"part-{number}").write_bytes(bytes([number]) * 20_000)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/mnt/shared", "must be a URL"),
        ("ftp://host/x", "must begin with file://"),
        ("https://host/x", "must begin with file://"),
        ("s3://key:hunter2@bucket/x", "credentials belong in the environment"),
        ("s3://bucket/x?token=hunter2", "no more than s3://bucket/prefix"),
        ("s3://bucket/../hunter2", "no more than"),
        ("s3://bucket/a::file://hunter2", "no more than"),
        ("s3://", "no more than"),
        ("gs://bucket/[hunter2]", "no more than"),
        ("abfs://key:hunter2@account/x", "no more than abfs://container/prefix"),
        ("file://relative/hunter2", "file:///folder"),
        ("file:///a/../hunter2", "file:///folder"),
        ("file:///a%2e%2e/hunter2", "file:///folder"),
    ],
)
def test_other_places_are_refused_without_repeating_them(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as raised:
        RemoteFiles(url, "study-1")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["s3://bucket", "gs://a.b-c/d/e", "abfs://box@account.dfs.core.windows.net/x"]
)
def test_places_are_told_apart_by_one_spelling(url: str) -> None:
    assert RemoteFiles(url.replace("s3", "S3") + "/", "x") == RemoteFiles(url, "x")


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("gs://bucket/x", "gs:// needs the package gcsfs: pip install gcsfs"),
        ("abfs://bucket/x", "abfs:// needs the package adlfs: pip install adlfs"),
    ],
)
def test_missing_package_is_named(url: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = line.rpartition(" ")[2]
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(StorageError) as raised:
        Store.open("sqlite:///nowhere/at.db", artifacts=url)
    assert str(raised.value) == line


def test_errors_of_a_place_are_one_line_without_secrets(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("key canary-key-1 is no good at https://x/y?sig=canary2\nsee more")

    monkeypatch.setenv("SOME_ACCESS_KEY", "canary-key-1")
    monkeypatch.setattr(Objects(remote.url)._fs, "cat_file", refuse)
    with pytest.raises(ArtifactError, match="could not be read: PermissionError: key … is") as told:
        remote.files().exists(KEY)
    assert "canary" not in str(told.value) and "\n" not in str(told.value)
    assert told.value.__cause__ is None and told.value.__suppress_context__


def test_a_place_that_cannot_be_written_to_is_found_at_once(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Objects, "create", lambda *_: (_ for _ in ()).throw(ArtifactError("no")))
    with pytest.raises(ArtifactError):
        remote.files().sweep(lambda key: True)


def test_database_knows_where_its_artifacts_lie(url: str, remote: TestedPlace) -> None:
    with Store.open(url, artifacts=remote.url) as store:
        with pytest.raises(InvalidValueError, match="must have a study"):
            store.artifact_files("study-1")
        store.create_study("reviews", {}, {}, {})
        files = store.artifact_files("study-1")
        assert isinstance(files, RemoteFiles) and files.url.startswith(f"{remote.url}/")
        shared = [remote.folder / "place"] if remote.kind == "file" else []
        assert store.shared_folders == shared
        stored = files.save(KEY, write)
        store.record_artifact(None, make_artifact(KEY, **asdict(stored)))
    with Store.open(url) as again:
        assert again.artifact_files("study-1") == files
        assert again.shared_folders == [folder / files.url.rpartition("/")[2] for folder in shared]
    with (
        Store.open(url, artifacts=f"{remote.url}/other") as moved,
        pytest.raises(StorageError, match="cannot lie in .* as well"),
    ):
        moved.artifact_files("study-1")
    assert not (remote.folder / "trimtab-artifacts").exists()


def test_database_with_artifacts_beside_it_keeps_them_there(
    store: Store, url: str, remote: TestedPlace
) -> None:
    assert store.shared_folders == [store.artifact_root]
    store.create_study("reviews", {}, {}, {})
    stored = store.artifact_files("study-1").save(KEY, write)
    store.record_artifact(None, make_artifact(KEY, **asdict(stored)))
    with (
        Store.open(url, artifacts=remote.url) as moved,
        pytest.raises(StorageError, match="trimtab-artifacts, so they cannot lie in"),
    ):
        moved.artifact_files("study-1")


def test_databases_in_one_place_leave_each_other_alone(remote: TestedPlace) -> None:
    found: list[RemoteFiles] = []
    for name in ("a", "b"):
        with Store.open(f"sqlite:///{remote.folder}/{name}.db", artifacts=remote.url) as store:
            store.create_study("reviews", {}, {}, {})
            files = store.artifact_files("study-1")
            assert isinstance(files, RemoteFiles)
            found.append(files)
    found[0].save(KEY, write)
    assert found[1].sweep(lambda key: False) == 0
    assert found[0].exists(KEY) and not found[1].exists(KEY)


def test_credentials_are_in_no_row_and_no_file(
    url: str, remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN" if remote.kind != "s3" else "UNUSED", "canary-token")
    with Store.open(url, artifacts=remote.url) as store:
        store.create_study("reviews", {}, {}, {})
        files = store.artifact_files("study-1")
        stored: StoredFile = files.save(KEY, write)
        store.record_artifact(None, make_artifact(KEY, **asdict(stored)))
        written = [path.read_bytes() for path in remote.folder.rglob("*") if path.is_file()]
        assert not any(b"canary" in data for data in written)
        manifest = Objects(remote.url).read(remote.find("manifest.json"))
        assert manifest is not None and b"canary" not in manifest
        assert json.loads(manifest)["key"] == KEY
