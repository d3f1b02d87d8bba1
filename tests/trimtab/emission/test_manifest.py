"""A checkpoint is as it was written, to the last bit, or it is not loaded."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.emission import CheckpointError, read_manifest
from trimtab.emission._manifest import MANIFEST

Mutation = Callable[[random.Random, Path, Path], list[str]]
"""Changes one checkpoint, given an older one; gives the files that may be blamed."""


def flip_a_bit(rng: random.Random, folder: Path, older: Path) -> list[str]:
    file = any_file(rng, folder)
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return [file.name]


def truncate(rng: random.Random, folder: Path, older: Path) -> list[str]:
    file = any_file(rng, folder)
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])
    return [file.name]


def fill_with_zeros(rng: random.Random, folder: Path, older: Path) -> list[str]:
    file = any_file(rng, folder)
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content))
    end = rng.randint(start + 1, len(content))
    if not any(content[start:end]):
        start, end = 0, len(content)
    content[start:end] = bytes(end - start)
    file.write_bytes(content)
    return [file.name]


def swap_two_files(rng: random.Random, folder: Path, older: Path) -> list[str]:
    one, other = rng.sample(sorted(folder.iterdir()), 2)
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    return [one.name, other.name]


def put_an_old_version_back(rng: random.Random, folder: Path, older: Path) -> list[str]:
    changed = [file for file in sorted(folder.iterdir()) if file.read_bytes() != twin(file, older)]
    file = rng.choice(changed)
    file.write_bytes(twin(file, older))
    # An old manifest is whole; it is the files that do not fit it.
    return [other.name for other in changed] if file.name == MANIFEST else [file.name]


def append(rng: random.Random, folder: Path, older: Path) -> list[str]:
    file = any_file(rng, folder)
    file.write_bytes(file.read_bytes() + rng.choice([b"\n", b" ", b"\0", b"x"]))
    return [file.name]


def remove(rng: random.Random, folder: Path, older: Path) -> list[str]:
    file = any_file(rng, folder)
    file.unlink()
    return [file.name]


KINDS: dict[Mutation, int] = {
    flip_a_bit: 200,
    truncate: 200,
    fill_with_zeros: 200,
    swap_two_files: 200,
    put_an_old_version_back: 200,
    append: 120,
    remove: 120,
}
"""How often each is tried."""


def any_file(rng: random.Random, folder: Path) -> Path:
    return rng.choice(sorted(folder.iterdir()))


def twin(file: Path, older: Path) -> bytes:
    return (older / file.name).read_bytes()


@pytest.fixture(scope="module")
def loads(finished: Any) -> Any:
    """Tells how often weights were looked at, which must not happen before all files are good."""
    seen: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        import trimtab_workers.jobs as jobs

        original = jobs.load_elastic
        patch.setattr(jobs, "load_elastic", lambda path: (seen.append(path), original(path))[1])
        yield seen


@pytest.mark.parametrize("mutate", KINDS, ids=lambda mutate: mutate.__name__)
def test_any_change_is_refused_and_the_file_named(
    mutate: Mutation,
    checkpoint: Path,
    odd_checkpoints: dict[str, Path],
    loads: list[Path],
    rng: random.Random,
) -> None:
    older = odd_checkpoints["no-heads"]
    whole = {file: file.read_bytes() for file in checkpoint.iterdir()}
    changed: set[str] = set()
    loads.clear()
    for number in range(KINDS[mutate]):
        blamed = mutate(rng, checkpoint, older)
        with pytest.raises(CheckpointError) as caught:
            trimtab.load(checkpoint)
        message = str(caught.value)
        assert any(name in message for name in blamed), (number, blamed, message)
        assert "\n" not in message
        changed.update(blamed)
        for name in {*blamed, MANIFEST}:
            (checkpoint / name).write_bytes(whole[checkpoint / name])
    assert not loads
    # Only what a checkpoint of another width has otherwise can be an old version.
    assert changed == {file.name for file in whole} or mutate is put_an_old_version_back
    trimtab.load(checkpoint)


def test_there_are_a_thousand_mutations() -> None:
    assert sum(KINDS.values()) >= 1_000


def test_an_unchanged_checkpoint_loads(checkpoint: Path, loads: list[Path]) -> None:
    loads.clear()
    assert not trimtab.load(checkpoint).training
    assert loads == [checkpoint]


def test_every_file_is_in_the_manifest(checkpoint: Path) -> None:
    names = {file.name for file in checkpoint.iterdir()}
    assert set(read_manifest(checkpoint)["files"]) == names - {MANIFEST}


def test_every_bit_of_a_manifest_counts(
    checkpoint: Path, tmp_path: Path, rng: random.Random
) -> None:
    content = (checkpoint / MANIFEST).read_bytes()
    alone = tmp_path / "alone"
    alone.mkdir()
    for position in rng.sample(range(8 * len(content)), 400):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        (alone / MANIFEST).write_bytes(changed)
        with pytest.raises(CheckpointError, match=MANIFEST):
            read_manifest(alone)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1, "manifest_sha256": NaN}',
        b'{"format": 1, "manifest_sha256": ""}',
        b'{"format": "1", "manifest_sha256": ""}',
        b'{"format": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:30]),
)
def test_what_is_no_manifest_is_refused_in_one_line(content: bytes, checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=MANIFEST) as caught:
        trimtab.load(checkpoint)
    assert "\n" not in str(caught.value)


def test_a_newer_format_says_to_update(checkpoint: Path) -> None:
    file = checkpoint / MANIFEST
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="update trimtab"):
        trimtab.load(checkpoint)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_what_is_no_checkpoint_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "thing")
    with pytest.raises(CheckpointError, match="must be a checkpoint that trimtab wrote"):
        trimtab.load(tmp_path / "thing")


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "training_args.bin",
        "model-00001-of-00002.safetensors",
        "adapter_model.safetensors",
        "model.safetensors.index.json",
        "adapter_config.json",
        "added_tokens.json",
        "chat_template.jinja",
        "extra_modeling.py",
        "weights.pt",
    ],
)
def test_a_stray_file_is_refused(name: str, checkpoint: Path) -> None:
    (checkpoint / name).write_text("{}")
    with pytest.raises(CheckpointError, match=f"{name} does not belong to this checkpoint"):
        trimtab.load(checkpoint)


def test_what_git_adds_is_let_be(checkpoint: Path) -> None:
    (checkpoint / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (checkpoint / ".git").mkdir()
    trimtab.load(checkpoint)


def test_a_checkpoint_may_be_moved(checkpoint: Path, tmp_path: Path) -> None:
    shutil.move(checkpoint, tmp_path / "elsewhere")
    trimtab.load(str(tmp_path / "elsewhere"))


def test_verify_refuses_a_changed_file_too(checkpoint: Path, command: Any) -> None:
    (checkpoint / "README.md").write_text("better than it is")
    ran = command("verify", checkpoint)
    assert (ran.code, ran.out) == (2, "")
    assert "README.md is not as it was written" in ran.err
    assert ran.err.count("\n") == 1
