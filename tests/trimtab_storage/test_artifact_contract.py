"""What holds of artifact files wherever they lie: here, in a shared folder, in an object store."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from trimtab_storage import (
    ArtifactError,
    ArtifactFiles,
    Artifacts,
    InvalidValueError,
    Lease,
    Store,
    StoredFile,
    check_invariants,
)
from trimtab_storage.testing import TestedPlace, make_artifact

KEY, OTHER = "ab" * 16, "cd" * 16


def writing(**contents: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "sub").mkdir()
        for name, text in contents.items():
            (folder / "sub" / name).write_text(text)
        (folder / "config.json").write_text("{}")

    return write


@pytest.fixture
def files(world: TestedPlace) -> Artifacts:
    return world.files()


@pytest.fixture
def placed(world: TestedPlace, url: str, store: Store) -> Iterator[Store]:
    """A store whose artifacts lie in the place."""
    if world.kind == "local":
        yield store
        return
    with Store.open(url, artifacts=world.url) as opened:
        yield opened


def test_saved_artifact_is_there_and_whole(world: TestedPlace, files: Artifacts) -> None:
    stored = files.save(KEY, writing(a="one", b="two"))
    assert stored.path.endswith(f"ab/{KEY}")
    assert stored.size_bytes == len("one") + len("two") + len("{}")
    assert files.exists(KEY) and files.verify(KEY, stored.sha256)
    assert not files.verify(KEY, "00" * 32)
    for _ in range(2):
        assert (files.path(KEY) / "sub" / "b").read_text() == "two"
        assert (files.path(KEY) / "config.json").read_text() == "{}"
        world.other_machine()


def test_hash_is_the_same_wherever_it_lies(files: Artifacts, tmp_path: Path) -> None:
    here = ArtifactFiles(tmp_path / "elsewhere", "study-2")
    assert here.save(KEY, writing(a="1")).sha256 == files.save(OTHER, writing(a="1")).sha256


def test_there_is_room_as_far_as_anybody_can_tell(files: Artifacts) -> None:
    assert files.has_room(1)


def test_missing_artifact_is_not_there(files: Artifacts) -> None:
    assert not files.exists(KEY)
    assert not files.verify(KEY, "00" * 32)
    files.remove(KEY)
    assert files.sweep(lambda key: False) == 0


def test_finished_artifact_wins(world: TestedPlace, files: Artifacts) -> None:
    first = files.save(KEY, writing(a="one"))
    before = world.names()
    assert world.files("study-2").save(KEY, writing(a="other")) == first
    assert world.names() == before
    assert (files.path(KEY) / "sub" / "a").read_text() == "one"


def test_removed_artifact_can_be_saved_again(world: TestedPlace, files: Artifacts) -> None:
    first = files.save(KEY, writing(a="one"))
    files.remove(KEY)
    assert not files.exists(KEY)
    assert world.names() == []
    second = files.save(KEY, writing(a="two"))
    assert second != first
    assert (files.path(KEY) / "sub" / "a").read_text() == "two"


def test_an_artifact_made_anew_is_seen_by_machines_that_had_the_old_one(
    world: TestedPlace, files: Artifacts
) -> None:
    files.save(KEY, writing(a="one"))
    assert (files.path(KEY) / "sub" / "a").read_text() == "one"
    with world.monkeypatch.context():
        here = world.monkeypatch
        if world.kind != "local":
            here.setenv("TRIMTAB_CACHE", str(world.folder / "another"))
        files.remove(KEY)
        files.save(KEY, writing(a="two"))
    assert (files.path(KEY) / "sub" / "a").read_text() == "two"


def test_failing_writer_leaves_nothing(world: TestedPlace, files: Artifacts) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("…")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        files.save(KEY, write)
    assert not files.exists(KEY)
    assert world.names() == []


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: None, "must have files"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "plain files only"),
        (lambda folder: (folder / "owner.json").touch(), r"owner\.json"),
    ],
)
def test_what_is_no_artifact_is_refused(
    world: TestedPlace, files: Artifacts, write: Callable[[Path], None], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        files.save(KEY, write)
    assert not files.exists(KEY)
    assert world.names() == []


@pytest.mark.parametrize("key", ["", "abc", "ABCD", "../../etc", "ab/cd12", "abcd\n", "a" * 129])
def test_key_that_is_not_hexadecimal_is_refused(files: Artifacts, key: str) -> None:
    for use in (files.path, files.exists, files.remove, lambda key: files.save(key, writing())):
        with pytest.raises(InvalidValueError, match="hexadecimal digits"):
            use(key)


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "add", "swap"])
def test_damage_is_found_before_anything_is_used(
    world: TestedPlace, files: Artifacts, damage: str
) -> None:
    stored = files.save(KEY, writing(a="one", b="two"))
    name = world.find("sub/a")
    if damage == "remove":
        world.remove(name)
    elif damage == "swap":
        world.write(name, b"two")
        world.write(world.find("sub/b"), b"one")
    else:
        contents = {"change": b"onE", "truncate": b"on", "add": b""}[damage]
        world.write(f"{name}{'c' if damage == 'add' else ''}", contents)
    world.other_machine()
    if files.verify(KEY, stored.sha256):
        # Of files elsewhere the contents are compared when they come.
        with pytest.raises(ArtifactError, match="not what was saved"):
            files.path(KEY)
    elif world.kind != "local":
        with pytest.raises(ArtifactError):
            files.path(KEY)


def test_damaged_artifact_is_replaced_by_the_next_one(world: TestedPlace, files: Artifacts) -> None:
    files.save(KEY, writing(a="one"))
    world.remove(world.find("sub/a"))
    second = files.save(KEY, writing(a="other"))
    world.other_machine()
    assert files.verify(KEY, second.sha256)
    assert (files.path(KEY) / "sub" / "a").read_text() == "other"


def test_sweep_takes_only_what_this_owner_left(world: TestedPlace, files: Artifacts) -> None:
    other = world.files("study-1-b")
    for key in (KEY, OTHER):
        files.save(key, writing(a="one"))
    other.save("ef" * 16, writing(a="one"))
    assert files.sweep(lambda key: key == KEY) == 1
    assert [files.exists(key) for key in (KEY, OTHER, "ef" * 16)] == [True, False, True]
    assert other.sweep(lambda key: False) == 1
    assert not files.exists("ef" * 16)


def test_those_who_save_the_same_at_once_get_the_same(world: TestedPlace) -> None:
    results: list[StoredFile] = []
    start = threading.Barrier(4)

    def save(number: int) -> None:
        def write(folder: Path) -> None:
            writing(a=f"by {number}")(folder)
            start.wait()

        results.append(world.files(f"study-{number}").save(KEY, write))

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1
    assert world.files().verify(KEY, results[0].sha256)


def test_it_travels_to_other_processes(world: TestedPlace, files: Artifacts) -> None:
    sent = pickle.dumps(files)
    assert b"canary" not in sent
    pickle.loads(sent).save(KEY, writing(a="one"))
    world.other_machine()
    assert (pickle.loads(sent).path(KEY) / "sub" / "a").read_text() == "one"


def test_store_records_drops_and_sweeps(world: TestedPlace, placed: Store, lease: Lease) -> None:
    files = placed.artifact_files("study-1")
    kept, dropped = (files.save(key, writing(a=key)) for key in (KEY, OTHER))
    files.save("ef" * 16, writing(a="never recorded"))
    for key, stored in ((KEY, kept), (OTHER, dropped)):
        row = placed.record_artifact(lease, make_artifact(key, **asdict(stored)))
        assert row.path == stored.path
    placed.drop_files(files, OTHER)
    assert placed.sweep_files(files) == 1
    assert [files.exists(key) for key in (KEY, OTHER, "ef" * 16)] == [True, False, False]
    assert check_invariants(placed, lease.study_id) == []
    gone = placed.record_artifact(lease, make_artifact("ef" * 16, **asdict(kept)))
    assert gone.path is not None  # its path is that of files that are there
    files.remove(KEY)
    assert check_invariants(placed, lease.study_id) != []
    assert placed.record_artifact(lease, make_artifact("0123", **asdict(dropped))).path is None
