"""``trimtab.json``: what a checkpoint is, and the hash of every file in it. Free of torch.

The hashes tell damage and mix-ups, not malice: who can change a file can change its hash as well.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from trimtab.errors import InputError

MANIFEST = "trimtab.json"
FORMAT = 1
SELF = "manifest_sha256"


class CheckpointError(InputError):
    """A folder is not a checkpoint of ours, or not as it was written."""


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Hashes every file of a folder and writes them with ``facts`` into its manifest."""
    names = sorted(file.name for file in folder.iterdir() if file.name != MANIFEST)
    files = {name: file_facts(folder / name) for name in names}
    content = {"format": FORMAT, **facts, "files": files, SELF: ""}
    content[SELF] = hashlib.sha256(_bytes(content)).hexdigest()
    (folder / MANIFEST).write_bytes(_bytes(content))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads a checkpoint's manifest and checks it against its own hash.

    Raises:
        CheckpointError: if there is none, it is of a newer format, any byte was changed, or what
            stands in it is not what a manifest holds.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{folder} must be a checkpoint that trimtab wrote, but its {MANIFEST} cannot be read: "
            f"{error.strerror}"
        ) from None
    try:
        content = json.loads(raw)
        newest, is_whole = content["format"], _is_whole(content, raw)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _damaged(path) from None
    if isinstance(newest, int) and newest > FORMAT:
        raise CheckpointError(
            f"{path} is of format {newest}, but this trimtab reads up to {FORMAT}: update trimtab"
        )
    if not is_whole:
        raise _damaged(path)
    # Not above: validating takes a library that much else here does without.
    from trimtab.emission._contents import fault_of

    if fault := fault_of(content):
        raise CheckpointError(f"{path} cannot be worked with ({fault}): emit the checkpoint again")
    return dict(content)


def _is_whole(content: dict[str, Any], raw: bytes) -> bool:
    blank = _bytes({**content, SELF: ""})
    return _bytes(content) == raw and hashlib.sha256(blank).hexdigest() == content[SELF]


def check_files(folder: Path) -> dict[str, Any]:
    """Checks every file of a checkpoint against its manifest and gives the manifest.

    Raises:
        CheckpointError: naming the first file that is missing, differs, or does not belong there.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} must have {name}, but it is missing: emit it again")
        if file_facts(folder / name) != expected:
            raise _damaged(folder / name)
    for file in sorted(folder.iterdir()):
        # Any file here may be one that transformers looks for. Hidden ones are git's and the like.
        if file.name not in {MANIFEST, *manifest["files"]} and not file.name.startswith("."):
            raise CheckpointError(f"{file} does not belong to this checkpoint: remove it")
    return manifest


def file_facts(path: Path) -> dict[str, Any]:
    """Gives a file's sha256 and size."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _bytes(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return (text + "\n").encode()


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is not as it was written (its sha256 differs): emit the checkpoint again"
    )
