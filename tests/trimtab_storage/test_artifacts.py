from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import (
    ArtifactError,
    ArtifactFiles,
    DiskFullError,
    InvalidValueError,
    Store,
    StoredFile,
    check_invariants,
)
from trimtab_storage.testing import make_artifact

KEY = "ab" * 16
KILLS = int(os.environ.get("TRIMTAB_KILLS", "50"))
"""Fifty in every run of the tests; `make chaos` makes it 500."""
BLOCKS = 10


@pytest.fixture
def files(tmp_path: Path) -> ArtifactFiles:
    return ArtifactFiles(tmp_path / "artifacts", "study-1")


def writing(**contents: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "sub").mkdir()
        for name, text in contents.items():
            (folder / "sub" / name).write_text(text)
        (folder / "config.json").write_text("{}")

    return write


def in_tmp(files: ArtifactFiles) -> list[Path]:
    return list((files.root / "tmp").iterdir())


def test_saved_artifact_is_there_and_whole(files: ArtifactFiles) -> None:
    stored = files.save(KEY, writing(a="one", b="two"))
    assert stored.path == f"ab/{KEY}"
    assert stored.size_bytes == len("one") + len("two") + len("{}")
    assert files.path(KEY) == files.root / stored.path
    assert (files.path(KEY) / "sub" / "b").read_text() == "two"
    assert files.exists(KEY)
    assert files.verify(KEY, stored.sha256)
    assert in_tmp(files) == []


def test_hash_is_of_names_and_contents_only(files: ArtifactFiles, tmp_path: Path) -> None:
    stored = files.save(KEY, writing(a="one", b="two"))
    other = ArtifactFiles(tmp_path / "elsewhere", "study-2")
    assert other.save("cd" * 16, writing(b="two", a="one")).sha256 == stored.sha256
    assert other.save("ef" * 16, writing(a="two", b="one")).sha256 != stored.sha256
    assert other.save("01" * 16, writing(a="one", c="two")).sha256 != stored.sha256


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "add", "swap"])
def test_damage_is_found(files: ArtifactFiles, damage: str) -> None:
    stored = files.save(KEY, writing(a="one", b="two"))
    folder = files.path(KEY) / "sub"
    if damage == "change":
        (folder / "a").write_text("onE")
    elif damage == "truncate":
        os.truncate(folder / "a", 2)
    elif damage == "remove":
        (folder / "a").unlink()
    elif damage == "add":
        (folder / "c").write_text("")
    else:
        (folder / "a").rename(folder / "c")
        (folder / "b").rename(folder / "a")
        (folder / "c").rename(folder / "b")
    assert not files.verify(KEY, stored.sha256)


def test_missing_artifact_is_not_there(files: ArtifactFiles) -> None:
    assert not files.exists(KEY)
    assert not files.verify(KEY, "00" * 32)
    files.remove(KEY)
    assert files.sweep(lambda key: False) == 0


def test_finished_folder_wins(files: ArtifactFiles) -> None:
    first = files.save(KEY, writing(a="one"))
    assert files.save(KEY, writing(a="other")) == first
    assert (files.path(KEY) / "sub" / "a").read_text() == "one"
    assert in_tmp(files) == []


def test_damaged_folder_is_replaced(files: ArtifactFiles) -> None:
    files.save(KEY, writing(a="one"))
    (files.path(KEY) / "sub" / "a").write_text("bad")
    second = files.save(KEY, writing(a="other"))
    assert files.verify(KEY, second.sha256)
    assert (files.path(KEY) / "sub" / "a").read_text() == "other"
    assert in_tmp(files) == []


def test_removed_artifact_can_be_saved_again(files: ArtifactFiles) -> None:
    first = files.save(KEY, writing(a="one"))
    files.remove(KEY)
    assert not files.exists(KEY)
    assert in_tmp(files) == []
    assert files.save(KEY, writing(a="one")) == first


def test_failing_writer_leaves_nothing(files: ArtifactFiles) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("…")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        files.save(KEY, write)
    assert not files.exists(KEY)
    assert in_tmp(files) == []


def test_full_disk_is_told_and_leaves_nothing(files: ArtifactFiles) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("…")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="the disk is full"):
        files.save(KEY, write)
    assert not files.exists(KEY)
    assert in_tmp(files) == []


def test_room_is_what_can_be_taken_up_on_the_disk_or_of_a_quota(
    files: ArtifactFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.has_room(1e6) and not files.has_room(shutil.disk_usage(files.root).total * 2)
    assert in_tmp(files) == []

    def quota(descriptor: int, offset: int, n_bytes: int) -> None:
        if n_bytes > 1e6:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", quota)
    assert files.has_room(1e6) and not files.has_room(2e6)
    assert in_tmp(files) == []
    monkeypatch.delattr(os, "posix_fallocate")
    assert files.has_room(2e6), "where nobody can tell of a quota"


@pytest.mark.parametrize("write", [lambda folder: None, lambda folder: (folder / "x").mkdir()])
def test_empty_artifact_is_refused(files: ArtifactFiles, write: Callable[[Path], None]) -> None:
    with pytest.raises(ArtifactError, match="must have files"):
        files.save(KEY, write)
    assert not files.exists(KEY)


def test_links_and_our_own_file_are_refused(files: ArtifactFiles) -> None:
    with pytest.raises(ArtifactError, match="plain files only"):
        files.save(KEY, lambda folder: (folder / "link").symlink_to("/etc/passwd"))
    with pytest.raises(ArtifactError, match=r"owner\.json"):
        files.save(KEY, lambda folder: (folder / "owner.json").touch())
    assert not files.exists(KEY)


@pytest.mark.parametrize(
    "key", ["", "abc", "ABCD", "../../etc", "ab/cd12", "abcd ", "abcd\n", "xyzw", "a" * 129]
)
def test_key_that_is_not_hexadecimal_is_refused(files: ArtifactFiles, key: str) -> None:
    for use in (files.path, files.exists, files.remove):
        with pytest.raises(InvalidValueError, match="hexadecimal digits"):
            use(key)


@pytest.mark.parametrize("owner", ["", "a/b", "..", ".hidden", "a b", "a\n"])
def test_owner_that_is_no_name_is_refused(tmp_path: Path, owner: str) -> None:
    with pytest.raises(InvalidValueError, match="an owner of artifact files"):
        ArtifactFiles(tmp_path, owner)


def test_sweep_takes_only_what_this_owner_left(files: ArtifactFiles) -> None:
    other = ArtifactFiles(files.root, "study-1-b")
    files.save("aa00", writing(a="kept"))
    files.save("bb00", writing(a="never recorded"))
    other.save("cc00", writing(a="of another owner"))
    for owner in ("study-1", "study-1-b"):
        (files.root / "tmp" / f"{owner}-0123").mkdir()
    (files.root / "dd" / "dd00").mkdir(parents=True)
    assert files.sweep(lambda key: key == "aa00") == 2
    assert [files.exists(key) for key in ("aa00", "bb00", "cc00", "dd00")] == [
        True,
        False,
        True,
        True,
    ]
    assert [path.name for path in in_tmp(files)] == ["study-1-b-0123"]


def test_files_can_be_sent_to_a_worker_that_loads_no_database_library(
    files: ArtifactFiles,
) -> None:
    code = (
        "import pickle, sys; files = pickle.loads(sys.stdin.buffer.read());"
        "stored = files.save('abcd', lambda folder: (folder / 'x').write_text('hi'));"
        "assert 'sqlalchemy' not in sys.modules; print(stored.sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(files), capture_output=True, check=True
    )
    assert files.verify("abcd", done.stdout.decode().strip())


def save_many(url: str, started: int) -> None:
    """Saves and records artifacts for ever, in small writes so that a kill falls into them."""
    rng = random.Random(started)
    with Store.open(url) as store:
        files = ArtifactFiles(store.artifact_root, "study-1")
        for i in range(10**9):
            key = f"{rng.randrange(256):02x}{started:04x}{i:04x}"
            blocks = [rng.randbytes(4096) for _ in range(BLOCKS)]

            def write(folder: Path, blocks: list[bytes] = blocks) -> None:
                for name in ("a", "b", "c"):
                    with (folder / name).open("wb", buffering=0) as file:
                        for block in blocks:
                            file.write(block)

            stored = files.save(key, write)
            store.record_artifact(None, make_artifact(key, **vars(stored)))
            if i % 3 == 2:
                store.forget_file(key)
                files.remove(key)


@pytest.mark.timeout(60 + 5 * KILLS)
def test_killed_saves_leave_nothing_half_visible(
    url: str,
    store: Store,
    child: Callable[[Callable[[], None]], Any],
    wait_for: Callable[[Callable[[], bool]], None],
    rng: random.Random,
) -> None:
    study = store.create_study("reviews", {}, {}, {})
    files = ArtifactFiles(store.artifact_root, "study-1")
    left = 0
    for kill in range(KILLS):
        running = child(lambda kill=kill: save_many(url, kill))
        if kill % 3:
            # Into the saving; the others fall anywhere, also into opening.
            before = len(store.artifacts())
            wait_for(lambda before=before: len(store.artifacts()) > before)
        time.sleep(rng.random() * 0.04)
        running.kill()
        assert check_invariants(store, study.id) == []
        for row in store.kept_artifacts():
            assert row.sha256 and files.verify(row.key, row.sha256), (
                "what is recorded must be whole"
            )
        for folder in files.root.glob("[0-9a-f][0-9a-f]/*"):
            assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "c", "owner.json"]
            note = json.loads((folder / "owner.json").read_text())
            assert files.verify(folder.name, note["sha256"]), "a visible folder must be whole"
        kept = {row.key for row in store.kept_artifacts()}
        left += files.sweep(kept.__contains__)
        assert {folder.name for folder in files.root.glob("[0-9a-f][0-9a-f]/*")} == kept
        assert not list(files.root.glob("tmp/*"))
    assert left > 0, "some kills must fall into a save"


def test_stored_file_is_a_plain_value(files: ArtifactFiles) -> None:
    stored = files.save(KEY, writing(a="one"))
    assert pickle.loads(pickle.dumps(stored)) == stored
    assert stored == StoredFile(stored.path, stored.sha256, stored.size_bytes)
