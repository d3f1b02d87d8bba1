"""A checkpoint appears in one piece, whatever is there already and whoever is killed."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trimtab.emission import check_target
from trimtab.emission._place import partial_folder, put_in_place
from trimtab.errors import InputError, TrimtabError

MARK = "trimtab.json"

# Writes version after version of a "checkpoint" whose two files must always agree.
WRITER = """
import sys
from pathlib import Path
from trimtab.emission._place import partial_folder, put_in_place

out = Path(sys.argv[1])
for version in range(10_000):
    with partial_folder(out) as partial:
        (partial / "trimtab.json").write_text(str(version))
        (partial / "weights").write_text(str(version) * 1000)
        put_in_place(partial, out)
    print(version, flush=True)
"""


def write(out: Path, content: str) -> None:
    with partial_folder(out) as partial:
        (partial / MARK).write_text(content)
        put_in_place(partial, out)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_it_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    with partial_folder(tmp_path / "a" / "out") as partial:
        (partial / MARK).write_text("1")
        assert names(tmp_path / "a") == [partial.name]
        put_in_place(partial, tmp_path / "a" / "out")
        assert names(tmp_path / "a") == ["out"]


def test_nothing_is_left_when_the_writer_fails(tmp_path: Path) -> None:
    write(tmp_path / "out", "1")
    with pytest.raises(ZeroDivisionError), partial_folder(tmp_path / "out") as partial:
        (partial / MARK).write_text("2")
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / MARK).read_text() == "1"


def test_an_old_one_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "out", "1")
    (tmp_path / "out" / "old-file").touch()
    write(tmp_path / "out", "2")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == [MARK]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "1")
    assert names(tmp_path / "out") == [MARK]


def test_the_old_one_comes_back_when_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write(out, "1")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(TrimtabError, match=r"out could not be written: Input/output error"):
        write(out, "2")
    assert names(tmp_path) == ["out"]
    assert (out / MARK).read_text() == "1"


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    message = r"out could not be written: No space left on device$"
    with pytest.raises(TrimtabError, match=message), partial_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", ["file/out", "/proc/out"])
def test_a_place_that_cannot_be_written_to_is_the_users_to_change(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    message = "cannot be written to .*: name another folder"
    with pytest.raises(InputError, match=message), partial_folder(tmp_path / place):
        pytest.fail("there is no such place")


def test_what_killed_writers_left_is_cleared_away(tmp_path: Path) -> None:
    for name in (".out.partial-0123abcd", ".out.old-0123abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MARK).write_text("0")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MARK).write_text("1")
    write(tmp_path / "out", "2")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / MARK).read_text() == "2"


def test_an_old_one_without_its_place_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".out.old-0123abcd").mkdir()
    (tmp_path / ".out.old-0123abcd" / MARK).write_text("1")
    with pytest.raises(ZeroDivisionError), partial_folder(tmp_path / "out"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / MARK).read_text() == "1"


def test_others_are_let_be(tmp_path: Path) -> None:
    others = [".out.partial-notours", ".out2.partial-0123abcd", ".other.old-0123abcd", "out.old"]
    for name in others:
        (tmp_path / name).mkdir()
    with partial_folder(tmp_path / "out") as first, partial_folder(tmp_path / "out") as second:
        (first / MARK).write_text("1")
        (second / MARK).write_text("2")
        put_in_place(first, tmp_path / "out")
        put_in_place(second, tmp_path / "out")
    assert names(tmp_path) == sorted([*others, "out"])
    assert (tmp_path / "out" / MARK).read_text() == "2"


@pytest.mark.parametrize("name", ["a[b]", "*", "o?t", "ä ö"])
def test_any_name_will_do(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, "1")
    write(tmp_path / name, "2")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_checkpoint_is_never_replaced(force: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    with pytest.raises(InputError, match="is not a checkpoint .* even with --force"):
        check_target(tmp_path / "thesis", force)
    with pytest.raises(InputError, match="it is a file"):
        check_target(tmp_path / "thesis" / "chapter1.tex", force)


def test_a_checkpoint_is_replaced_only_by_force(tmp_path: Path) -> None:
    write(tmp_path / "out", "1")
    check_target(tmp_path / "out", force=True)
    with pytest.raises(InputError, match="exists already: name another folder, or pass --force"):
        check_target(tmp_path / "out", force=False)


def start(code: str, *arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def kill_later() -> Callable[[subprocess.Popen[str], float], None]:
    def kill(process: subprocess.Popen[str], seconds: float) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    return kill


def test_killed_writers_leave_a_whole_checkpoint_or_none(
    tmp_path: Path, kill_later: Callable[[subprocess.Popen[str], float], None], rng: random.Random
) -> None:
    out = tmp_path / "out"
    for number in range(10):
        seconds = rng.uniform(0, 0.05)
        kill_later(start(WRITER, out), seconds)
        left = names(tmp_path)
        print(f"kill {number} after {seconds:.3f} s: {left}")
        assert all(re.fullmatch(r"out|\.out\.(partial|old)-[0-9a-f]{8}", name) for name in left)
        # In the moment between two renames the old one is whole under its other name.
        whole = out if out.exists() else next(tmp_path.glob(".out.old-*"))
        version = (whole / MARK).read_text()
        assert (whole / "weights").read_text() == version * 1000
    write(out, "last")
    assert names(tmp_path) == ["out"]


def test_writers_to_one_place_do_not_take_each_other_for_leftovers(tmp_path: Path) -> None:
    code = WRITER.replace("10_000", "100")
    writers = [start(code, tmp_path / "out") for _ in range(3)]
    for process in writers:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert (tmp_path / "out" / "weights").read_text() == (
        (tmp_path / "out" / MARK).read_text() * 1000
    )
    write(tmp_path / "out", "last")
    assert names(tmp_path) == ["out"]


def test_locks_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        write(tmp_path / "out", str(number))
    assert len(os.listdir("/proc/self/fd")) == before
