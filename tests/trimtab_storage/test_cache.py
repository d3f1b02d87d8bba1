"""Artifacts that were brought here stay here, sound, until room is needed."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from trimtab_storage import ArtifactFiles, PlaceError
from trimtab_storage._cache import IN_USE_S, Cache
from trimtab_storage._objects import Objects
from trimtab_storage.testing import TestedPlace

KEY = "ab" * 16


def write(folder: Path) -> None:
    for number in range(5):
        (folder / f"part-{number}").write_bytes(bytes([number]) * 20_000)


def test_what_is_here_already_is_not_brought_again(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = remote.files()
    files.save(KEY, write)
    monkeypatch.setattr(Objects, "get", None)
    assert (files.path(KEY) / "part-1").read_bytes() == b"\1" * 20_000


def test_damage_in_the_cache_is_mended(remote: TestedPlace) -> None:
    files = remote.files()
    files.save(KEY, write)
    (files.path(KEY) / "part-1").write_bytes(b"\2" * 20_000)
    assert (files.path(KEY) / "part-1").read_bytes() == b"\1" * 20_000


def test_cache_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=250_000)
    here = ArtifactFiles(tmp_path / "here", "x")
    used: dict[str, Path] = {}
    for number in range(4):

        def fill(folder: Path, number: int = number) -> None:
            write(folder)
            (folder / "which").write_text(str(number))

        sha256 = here.save(f"{number:04x}", fill).sha256
        used[sha256] = cache.folder(sha256, fill)
        os.utime(used[sha256] / "owner.json", (time.time() - 2 * IN_USE_S + number,) * 2)
    assert [folder.is_dir() for folder in used.values()] == [False, False, True, True]
    assert not list((tmp_path / "cache" / "tmp").iterdir())


def test_cache_keeps_what_may_be_in_use(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=0)
    sha256 = ArtifactFiles(tmp_path / "here", "x").save(KEY, write).sha256
    assert cache.folder(sha256, write).is_dir()


def homeless(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("TRIMTAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))


def test_no_home_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homeless(monkeypatch, tmp_path)
    folder = tmp_path / f"trimtab-{os.getuid()}"
    for _ in range(2):
        assert Cache.here().root == folder / "artifacts"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, root in (("XDG_CACHE_HOME", "x/trimtab"), ("TRIMTAB_CACHE", "y")):
        monkeypatch.setenv(name, str(tmp_path / root.partition("/")[0]))
        assert Cache.here().root == tmp_path / root / "artifacts"


def test_a_home_that_cannot_be_written_to_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homeless(monkeypatch, tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "nobody")
    assert Cache.here().root == tmp_path / "nobody" / ".cache" / "trimtab" / "artifacts"
    # Whoever runs the tests may be root, who can write anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert Cache.here().root == tmp_path / f"trimtab-{os.getuid()}" / "artifacts"


def test_a_temporary_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homeless(monkeypatch, tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"trimtab-{os.getuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(PlaceError, match="set TRIMTAB_CACHE"):
        Cache.here()


def test_a_cache_that_cannot_be_made_is_the_fault_of_the_place(
    remote: TestedPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.files().save(KEY, write)
    (remote.folder / "file").touch()
    monkeypatch.setenv("TRIMTAB_CACHE", str(remote.folder / "file"))
    with pytest.raises(PlaceError, match="could not be read or written"):
        remote.files().path(KEY)
    with pytest.raises(PlaceError, match="could not be read or written"):
        remote.files().save("cd" * 16, write)
