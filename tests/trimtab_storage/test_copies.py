"""A copy of a database has the same studies and the same place; it takes nothing from the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from trimtab_storage import Artifacts, RemoteFiles, Store
from trimtab_storage._objects import Objects
from trimtab_storage.testing import TestedPlace, make_artifact

OWNER = "study-1"


def write(folder: Path) -> None:
    (folder / "weights").write_bytes(b"\1" * 1000)


def save(store: Store, key: str) -> None:
    stored = store.artifact_files(OWNER).save(key, write)
    store.record_artifact(None, make_artifact(key, **asdict(stored)))


@pytest.fixture
def original(url: str, remote: TestedPlace) -> Iterator[Store]:
    with Store.open(url, artifacts=remote.url) as store:
        store.create_study("reviews", {}, {}, {})
        save(store, "aaaa01")
        yield store


def copied(store: Store, target: Path) -> str:
    source = store.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    return f"sqlite:///{target}"


def there(files: Artifacts) -> list[str]:
    return [key for key in ("aaaa01", "bbbb02", "cccc03") if files.exists(key)]


def test_a_copy_sweeps_nothing_of_the_original(original: Store, remote: TestedPlace) -> None:
    url = copied(original, remote.folder / "copy.db")
    save(original, "bbbb02")
    files = original.artifact_files(OWNER)
    assert isinstance(files, RemoteFiles)
    # Not ended, as a worker of the original may be at it now.
    Objects(files.url).create(f"dd/dddd04/{files.owner}-{'0' * 32}/weights", b"1", "draft")
    with Store.open(url) as copy:
        mine = copy.artifact_files(OWNER)
        assert copy.sweep_files(mine) == 0
        assert there(mine) == ["aaaa01", "bbbb02"]
        save(copy, "cccc03")
    assert original.sweep_files(files) == 1
    assert there(files) == ["aaaa01", "bbbb02", "cccc03"]


def test_a_backup_that_replaces_its_original_sweeps_nothing_of_it(
    original: Store, url: str, remote: TestedPlace
) -> None:
    copied(original, remote.folder / "backup.db")
    save(original, "bbbb02")
    original.close()
    path = Path(url.removeprefix("sqlite:///"))
    path.rename(remote.folder / "damaged.db")
    (remote.folder / "backup.db").rename(path)
    with Store.open(url) as restored:
        files = restored.artifact_files(OWNER)
        assert restored.sweep_files(files) == 0
        assert there(files) == ["aaaa01", "bbbb02"]


def test_what_this_database_left_is_still_swept_by_its_next_run(original: Store, url: str) -> None:
    original.artifact_files(OWNER).save("bbbb02", write)
    original.artifact_files("study-2").save("cccc03", write)
    original.close()
    with Store.open(url) as again:
        files = again.artifact_files(OWNER)
        assert again.sweep_files(files) == 1
        assert there(files) == ["aaaa01", "cccc03"]


def test_another_machine_is_another_owner(original: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    here = original.artifact_files(OWNER)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    original.artifact_files(OWNER).save("bbbb02", write)
    assert original.sweep_files(here) == 0
    assert original.sweep_files(original.artifact_files(OWNER)) == 1


@pytest.mark.parametrize("usual", [True, False])
def test_databases_in_one_folder_sweep_nothing_of_each_other(tmp_path: Path, usual: bool) -> None:
    names = ("trimtab.db" if usual else "first.db", "second.db")
    with (
        Store.open(f"sqlite:///{tmp_path}/{names[0]}") as first,
        Store.open(f"sqlite:///{tmp_path}/{names[1]}") as second,
    ):
        save(first, "aaaa01")
        mine, others = first.artifact_files(OWNER), second.artifact_files(OWNER)
        assert second.sweep_files(others) == 0 and mine.exists("aaaa01")
        others.save("bbbb02", write)  # killed before it was recorded
        assert first.sweep_files(mine) == 0 and second.sweep_files(others) == 1
        assert there(mine) == ["aaaa01"]
