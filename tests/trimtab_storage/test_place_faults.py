"""A place that does not answer: whose fault it is, who waits for it, and what is still recorded."""

from __future__ import annotations

import errno
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import (
    ArtifactError,
    ArtifactFiles,
    Artifacts,
    DiskFullError,
    Lease,
    NewArtifact,
    PlaceError,
    RemoteFiles,
    Store,
)
from trimtab_storage._objects import Objects
from trimtab_storage.testing import TestedPlace, make_artifact, make_point, make_recipe

KEY, OTHER = "ab" * 16, "cd" * 16


def write(folder: Path) -> None:
    (folder / "weights").write_bytes(b"\1" * 1000)


@pytest.fixture
def placed(url: str, remote: TestedPlace) -> Iterator[Store]:
    with Store.open(url, artifacts=remote.url) as store:
        store.create_study("reviews", {}, {}, {})
        yield store


@pytest.fixture
def files(placed: Store) -> Artifacts:
    return placed.artifact_files("study-1")


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Lets the place be asked in vain from now on; gives the list of what was asked for."""

    def fail() -> list[str]:
        asked: list[str] = []

        def refuse(self: Objects, name: str = "", *_: Any, **__: Any) -> Any:
            asked.append(name)
            raise PlaceError(f"{self.url} could not be read: TimeoutError")

        for method in ("read", "sizes", "create", "put", "get", "remove", "remove_folder"):
            monkeypatch.setattr(Objects, method, refuse)
        return asked

    return fail


def stored(files: Artifacts, key: str) -> NewArtifact:
    return make_artifact(key, **asdict(files.save(key, write)))


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("put_file", PermissionError("The AWS Access Key Id you provided does not exist")),
        ("put_file", TimeoutError()),
        ("pipe_file", ConnectionError("reset")),
        ("find", RuntimeError("ExpiredToken")),
        ("cat_file", OSError(errno.EIO, "Input/output error")),
    ],
)
def test_a_place_that_fails_is_blamed_and_not_who_saves(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    fs = Objects(remote.url)._fs
    if remote.kind == "file" and method == "pipe_file":
        monkeypatch.setattr("trimtab_storage.remote.Objects._link", refuse)
    monkeypatch.setattr(fs, method, refuse)
    with pytest.raises(PlaceError) as raised:
        remote.files().save(KEY, write)
    assert isinstance(raised.value, ArtifactError)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (again.blames, str(again)) == ("storage", str(raised.value))


def test_what_is_missing_or_damaged_there_is_its_fault(remote: TestedPlace) -> None:
    files = remote.files()
    with pytest.raises(PlaceError, match="is not in"):
        files.path(KEY)
    files.save(KEY, write)
    remote.write(remote.find("weights"), b"\2" * 1000)
    remote.other_machine()
    with pytest.raises(PlaceError, match="not what was saved"):
        files.path(KEY)


def test_an_upload_that_never_arrives_whole_is_its_fault(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Objects.put

    def lose(self: Objects, source: Path, name: str) -> None:
        put(self, source, name)
        self._fs.rm_file(self._at(name))

    monkeypatch.setattr(Objects, "put", lose)
    with pytest.raises(PlaceError, match="did not arrive whole"):
        remote.files().save(KEY, write)


def test_a_manifest_that_no_parser_can_read_counts_as_damage(remote: TestedPlace) -> None:
    remote.write(f"{KEY[:2]}/{KEY}/manifest.json", b"[" * 200_000)
    assert not remote.files().exists(KEY)


def test_a_package_that_a_worker_lacks_is_not_the_fault_of_a_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(PlaceError, match="pip install gcsfs"):
        RemoteFiles("gs://bucket/x", "study-1").path(KEY)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda folder: None, ArtifactError),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), ArtifactError),
        (lambda folder: (folder / "missing").read_text(), FileNotFoundError),
    ],
)
def test_what_the_writer_does_is_its_own_fault(
    world: TestedPlace, write: Callable[[Path], None], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as raised:
        world.files().save(KEY, write)
    assert getattr(raised.value, "blames", None) is None


def test_a_folder_that_cannot_be_written_to_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlaceError, match="could not be read or written"):
        ArtifactFiles(tmp_path / "file", "study-1").save(KEY, write)
    for number, kind in ((errno.EIO, PlaceError), (errno.ENOSPC, DiskFullError)):

        def refuse(*_: Any, number: int = number) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr("os.rename", refuse)
        with pytest.raises(kind):
            ArtifactFiles(tmp_path, "study-1").save(KEY, write)
        assert list((tmp_path / "tmp").iterdir()) == []


def test_results_are_recorded_while_the_place_does_not_answer(
    placed: Store, files: Artifacts, down: Callable[[], list[str]]
) -> None:
    (study,) = placed.studies()
    lease = placed.acquire(study.id, "one", 60.0)
    new = [stored(files, KEY), stored(files, OTHER)]
    trial = placed.add_trial(lease, make_recipe(0), "recipe")
    attempt = placed.start_trial(lease, trial.id)
    asked = down()
    points = [make_point(KEY)]
    placed.complete_trial(
        lease, trial.id, attempt, points=points, artifacts=new, seconds=1, reused=0, result={}
    )
    assert len(asked) == 1, "a place that does not answer is not asked for each"
    assert [row.path for row in placed.artifacts([KEY, OTHER])] == [each.path for each in new]
    placed.update_trial_points(lease, trial.id, points, new, 1.0)
    placed.add_points(lease, points, new)
    assert placed.record_artifact(lease, new[0]).path == new[0].path


def test_nobody_waits_for_the_place(
    placed: Store, url: str, files: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease: Lease = placed.acquire(placed.studies()[0].id, "one", 60.0)
    asked: list[str] = []

    def free(method: str) -> None:
        real = getattr(Objects, method)

        def ask(self: Objects, *arguments: Any) -> Any:
            asked.append(method)
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)) as other:
                other.execute("BEGIN IMMEDIATE")
            return real(self, *arguments)

        monkeypatch.setattr(Objects, method, ask)

    new, dropped = stored(files, KEY), stored(files, OTHER)
    files.save("ef" * 16, write)
    for method in ("read", "sizes", "create", "remove", "remove_folder"):
        free(method)
    placed.record_artifact(lease, new)
    placed.add_points(lease, [make_point(OTHER)], [dropped])
    placed.drop_files(files, OTHER)
    assert placed.sweep_files(files) == 1
    assert [files.exists(key) for key in (KEY, OTHER, "ef" * 16)] == [True, False, False]
    assert set(asked) == {"read", "sizes", "create", "remove", "remove_folder"}


def test_files_elsewhere_that_are_recorded_again_while_they_are_dropped_stay(
    placed: Store, files: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = stored(files, KEY)
    forget = placed.forget_file

    def forget_and_lose_the_turn(*keys: str) -> None:
        forget(*keys)
        placed.record_artifact(None, new)

    monkeypatch.setattr(placed, "forget_file", forget_and_lose_the_turn)
    placed.drop_files(files, KEY)
    assert files.exists(KEY)


def test_files_that_could_not_be_dropped_are_swept_later(
    placed: Store, files: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed.record_artifact(None, stored(files, KEY))
    with monkeypatch.context() as patch:
        patch.setattr(Objects, "remove", lambda *_: (_ for _ in ()).throw(PlaceError("no answer")))
        with pytest.raises(PlaceError):
            placed.drop_files(files, KEY)
    assert placed.kept_artifacts() == []
    assert placed.sweep_files(files) == 1
    assert not files.exists(KEY)
