"""`kill -9` in the middle of an emission: what stands under the final name is always whole."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.emission import check_files
from trimtab.emission._folder import write_checkpoint
from trimtab.emission._place import partial_folder, put_in_place
from trimtab_storage import Store

COMMANDS = 10
KILLS = int(os.environ.get("TRIMTAB_KILLS", "50"))
"""Fifty in every run of the tests; `make chaos` makes it 500."""


def start(db: str, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trimtab", "emit", "--db", db, "--out", str(out), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def emissions(writer: Any, out: Path, log: Path, first: int) -> Iterator[int]:
    """Writes checkpoint after checkpoint to one place, each noted when it is there."""
    row = writer.study.row()
    for version in range(first, 10**9):
        point = point_of(writer, version)
        facts = {**writer.facts, "study": f"version {version}"}
        with partial_folder(out) as partial:
            write_checkpoint(partial, writer.place, row.baseline["artifact"], point, [point], facts)
            check_files(partial)
            put_in_place(partial, out)
        with log.open("a") as stream:
            stream.write(f"{version}\n")
        yield version


def point_of(writer: Any, version: int) -> Any:
    """Gives the point whose checkpoint is written as that version: they take turns."""
    points = [p for p in writer.study.points() if writer.place.files.exists(p.artifact_key)]
    return points[version % len(points)]


def version_at(writer: Any, out: Path) -> int:
    """Checks a checkpoint's files, and that the weights are its own; gives which one it is."""
    version = int(check_files(out)["study"].removeprefix("version "))
    artifact = writer.place.files.path(point_of(writer, version).artifact_key)
    written = (out / "model.safetensors").read_bytes()
    assert written == (artifact / "model.safetensors").read_bytes()
    return version


@pytest.mark.timeout(60 + 5 * KILLS)
def test_what_was_written_before_a_kill_stays(
    writer: Any, tmp_path: Path, rng: random.Random
) -> None:
    out, log = tmp_path / "a" / "out", tmp_path / "log"
    began = time.monotonic()
    assert next(emissions(writer, out, log, 0)) == 0
    one_s = time.monotonic() - began
    left = 0
    for kill in range(KILLS):
        noted = int(log.read_text().split()[-1])

        def work(first: int = noted + 1) -> None:
            for _ in emissions(writer, out, log, first):
                pass

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        time.sleep(rng.uniform(0, 3 * one_s))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it must not end by itself"
        left += len(list(out.parent.iterdir())) != 1
        # The next one who writes there puts back or clears away what the killed one left.
        with partial_folder(out):
            pass
        assert [file.name for file in out.parent.iterdir()] == ["out"], f"kill {kill}"
        assert version_at(writer, out) >= int(log.read_text().split()[-1]), f"kill {kill}"
    assert left, "some kills must fall into an emission"


def lose_model(db: str) -> str:
    """Drops the weights of the point that is delivered, so that an emit has to make them again."""
    point = trimtab.open_study("starter", db=db).choose().point
    with Store.open(db) as store:
        store.drop_files(store.artifact_files("tests"), point.artifact_key)
    return str(point.artifact_key)


def emitting(db: str, out: Path, before_record: Callable[[], None]) -> Any:
    """Emits in a child, and calls back when a model is made again, but not recorded yet."""
    record = Store.record_artifact

    def work() -> None:
        def recorded(*arguments: Any) -> Any:
            before_record()
            return record(*arguments)

        Store.record_artifact = recorded  # type: ignore[method-assign]
        trimtab.open_study("starter", db=db).emit(out)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def left_in(db: str) -> list[str]:
    """Gives what lies among the artifacts and is neither recorded nor finished, and locks."""
    folder = Path(db.removeprefix("sqlite:///")).parent
    root = folder / "trimtab-artifacts"
    with Store.open_reader(db) as reader:
        kept = {row.path for row in reader.kept_artifacts()}
    finished = {path.relative_to(root).as_posix() for path in root.glob("[0-9a-f][0-9a-f]/*")}
    rest = [*(root / "tmp").iterdir(), *folder.glob("*.lock")]
    return sorted([*(finished - kept), *(path.name for path in rest)])


def test_an_emit_sweeps_what_a_killed_one_made(
    finished_copy: Any, verify_here: None, tmp_path: Path
) -> None:
    db = finished_copy.db
    lost = lose_model(db)
    killed = emitting(db, tmp_path / "killed", lambda: os.kill(os.getpid(), signal.SIGKILL))
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    artifacts = finished_copy.folder / "trimtab-artifacts"
    (artifacts / "tmp" / f"emit-1-{'0' * 32}").mkdir()
    (artifacts / "tmp" / f"emit-2-{'0' * 32}").mkdir()
    # Not the same point, of which the new emit would take the files for its own.
    assert f"{lost[:2]}/{lost}" in left_in(db)
    trimtab.open_study("starter", db=db).emit(tmp_path / "out", max_flops=0.35)
    assert left_in(db) == [f"emit-2-{'0' * 32}"], "that one is of another study"


def test_an_emit_leaves_alone_what_another_is_making(
    finished_copy: Any, verify_here: None, tmp_path: Path
) -> None:
    db, context = finished_copy.db, multiprocessing.get_context("fork")
    lost, made, go_on = lose_model(db), context.Event(), context.Event()

    def wait() -> None:
        made.set()
        assert go_on.wait(60)

    slow = emitting(db, tmp_path / "slow", wait)
    assert made.wait(60)
    before = left_in(db)
    assert f"{lost[:2]}/{lost}" in before
    trimtab.open_study("starter", db=db).emit(tmp_path / "other", max_flops=0.35)
    assert left_in(db) == before
    go_on.set()
    slow.join()
    assert slow.exitcode == 0 and left_in(db) == []
    trimtab.verify(tmp_path / "slow")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_folder_of_the_final_name_is_always_whole(
    finished_copy: Any, tmp_path: Path, rng: random.Random
) -> None:
    out = tmp_path / "out"
    began = time.monotonic()
    lose_model(finished_copy.db)
    assert start(finished_copy.db, tmp_path / "first").wait() == 0
    whole_run_s = time.monotonic() - began
    for number in range(COMMANDS):
        # Half of them replace a checkpoint that is there.
        options = ("--force", "--max-flops", "35%") if number % 2 else ("--force",)
        process = start(finished_copy.db, out, *options)
        if not number % 2:
            lose_model(finished_copy.db)
        seconds = rng.uniform(0.3, 1.1) * whole_run_s
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"kill {number} after {seconds:.2f} s: {sorted(tmp_path.iterdir())}")
        print(f"left: {left_in(finished_copy.db)}")
        if out.exists():
            trimtab.verify(out)
    assert start(finished_copy.db, out, "--force").wait() == 0
    trimtab.verify(out)
    assert left_in(finished_copy.db) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "first", "out"]
