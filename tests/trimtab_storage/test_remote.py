"""Uploads that end early, and damage, where artifacts lie elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import (
    ArtifactError,
    DiskFullError,
)
from trimtab_storage._manifest import read_manifest
from trimtab_storage._objects import Objects
from trimtab_storage.testing import TestedPlace

KEY, OTHER = "ab" * 16, "cd" * 16
KILLS = 12


def write(folder: Path) -> None:
    for number in range(5):
        (folder / f"part-{number}").write_bytes(bytes([number]) * 20_000)


def fail_at(monkeypatch: pytest.MonkeyPatch, method: str, call: int) -> None:
    """Lets one method end as when its process is killed there: nothing after it is done."""
    real, calls = getattr(Objects, method), iter(range(1000))

    def failing(self: Objects, *arguments: Any) -> Any:
        if next(calls) >= call:
            monkeypatch.setattr(Objects, "remove_folder", lambda *_: None)
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Objects, method, failing)


@pytest.mark.parametrize(("method", "call"), [("put", 0), ("put", 3), ("create", 0)])
def test_interrupted_upload_is_invisible_and_swept(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    files = remote.files()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        fail_at(patch, method, call)
        files.save(KEY, write)
    left = remote.names()
    assert len(left) == (5 if method == "create" else call)
    assert not files.exists(KEY) and not files.verify(KEY, "00" * 32)
    with pytest.raises(ArtifactError, match="is not in"):
        files.path(KEY)
    assert remote.files("study-2").sweep(lambda key: False) == 0
    assert remote.names() == left
    assert files.sweep(lambda key: True) == (1 if left else 0)
    assert remote.names() == []


def test_killed_savers_leave_only_whole_artifacts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: Callable[[Callable[[], None]], Any],
    wait_for: Callable[[Callable[[], bool]], None],
    rng: random.Random,
) -> None:
    place, left = TestedPlace("file", tmp_path, monkeypatch), 0
    files = place.files()

    def save_many(first: int) -> None:
        for number in range(first, first + 10_000):
            files.save(f"{number:08x}", write)

    for kill in range(KILLS):
        running = child(lambda kill=kill: save_many(kill * 10_000))  # type: ignore[misc]
        before = len(place.names())
        wait_for(lambda before=before: len(place.names()) > before)  # type: ignore[misc]
        time.sleep(rng.random() * 0.04)
        running.kill()
        manifests = [name for name in place.names() if name.endswith("manifest.json")]
        for name in manifests[-3:]:
            key = name.split("/")[1]
            assert (files.path(key) / "part-4").stat().st_size == 20_000
        left += files.sweep(lambda key: True)
        kept = {name.split("/")[1] for name in place.names()}
        assert len(kept) == len(manifests), "what is not whole must be swept, and nothing else"
    assert left > 0, "some kills must fall into a save"


def test_full_place_is_told_and_leaves_nothing(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    # The clients of a place are one in a process.
    fs = Objects(remote.url)._fs
    with monkeypatch.context() as patch, pytest.raises(DiskFullError, match="make room"):
        patch.setattr(fs, "put_file", full)
        remote.files().save(KEY, write)
    assert remote.names() == []


def test_damaged_manifest_is_none(remote: TestedPlace) -> None:
    files = remote.files()
    stored = files.save(KEY, write)
    name = remote.find("manifest.json")
    sound = Objects(remote.url).read(name)
    assert sound is not None
    rng = random.Random(0)
    for _ in range(50):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged = read_manifest(bytes(data), KEY)
        # A bit may turn a letter of the upload's name, which is then not there.
        assert damaged is None or damaged.upload != read_manifest(sound, KEY).upload  # type: ignore[union-attr]
    for data in (b"", b"[]", b"{}", sound[:-1], sound.replace(b"part-0", b"../../x")):
        remote.write(name, bytes(data))
        assert not files.exists(KEY) and not files.verify(KEY, stored.sha256)
    assert files.save(KEY, write) == stored
    assert files.verify(KEY, stored.sha256)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "a//b", ".", "", "a\\b", "a\0b", "owner.json"]
)
def test_names_that_lead_out_of_a_folder_are_damage(name: str) -> None:
    from trimtab_storage._folder import FileFacts
    from trimtab_storage._manifest import Manifest

    manifest = Manifest(KEY, f"study-1-{'0' * 32}", (FileFacts(name, "0" * 64, 1),))
    assert read_manifest(manifest.to_bytes(), KEY) is None


def test_manifest_of_another_artifact_is_none(remote: TestedPlace) -> None:
    files = remote.files()
    files.save(KEY, write)
    data = Objects(remote.url).read(remote.find("manifest.json"))
    assert data is not None
    remote.write(f"{OTHER[:2]}/{OTHER}/manifest.json", data)
    assert not files.exists(OTHER)


def test_parts_of_an_upload_that_never_ended_are_given_up(remote: TestedPlace) -> None:
    objects, aborted = Objects(remote.url), 0
    above = objects._base.partition("/")[2]
    names = [f"{above}/ab/{KEY}/{owner}-{'0' * 32}/part" for owner in ("study-1", "study-1-b")]
    if remote.kind == "s3":
        for name in names:
            objects._fs.call_s3("create_multipart_upload", Bucket=remote.bucket, Key=name)
        aborted = 1
    before = objects.unfinished()
    remote.files().sweep(lambda key: True)
    assert len(before) - len(objects.unfinished()) == aborted


def test_a_draft_that_was_left_is_swept(remote: TestedPlace) -> None:
    files = remote.files()
    files.save(KEY, write)
    before = remote.names()
    remote.write(f"{KEY[:2]}/{KEY}/study-1-{'0' * 32}", b"{")
    assert files.sweep(lambda key: True) == 1
    assert remote.names() == before
