"""Checkpoints made to do harm, signed anew by whoever did it: each is refused, and nothing runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.emission import CheckpointError, _manifest
from trimtab.emission._manifest import MANIFEST, SELF, write_manifest

Build = Callable[[Path, Any], object]
"""Changes a checkpoint, given the canary."""

pickled = methodcaller("pickled")


def with_json(name: str, **changes: Any) -> Build:
    return lambda folder, canary: canary.rewrite(folder / name, changes)


def adapter(folder: Path, canary: Any) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    (folder / "adapter_model.bin").write_bytes(canary.saved_by_torch())


def own(name: str, content: Callable[[Any], bytes]) -> Build:
    return lambda folder, canary: (folder / name).write_bytes(content(canary))


CHECKPOINTS: dict[str, tuple[Build, str]] = {
    "pickled weights": (own("model.safetensors", pickled), "not well-formed safetensors"),
    "a kernel": (
        with_json("config.json", attn_implementation="someone/kernel"),
        "kernels from elsewhere",
    ),
    "a second adapter": (adapter, "there is an adapter"),
    "code for the tokenizer": (
        with_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.T", None]}),
        "auto_map must be absent",
    ),
    "a pickle for a tokenizer": (own("tokenizer.json", pickled), "tokenizer cannot be"),
}
SIGNED = {"format", "files", SELF}


def sign(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    facts = {name: value for name, value in content.items() if name not in SIGNED}
    write_manifest(folder, {**facts, **changes})


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_refused_though_it_was_signed_anew(
    name: str, checkpoint: Path, refused: Any, canary: Any, tmp_path: Path
) -> None:
    build, message = CHECKPOINTS[name]
    build(checkpoint, canary)
    with pytest.raises(CheckpointError):
        trimtab.load(checkpoint)
    sign(checkpoint)
    (tmp_path / "rows.tsv").write_text("text\tlabel\nthe kettle\t1\n")
    refused(message, "verify", checkpoint, "--on", tmp_path / "rows.tsv")


def test_a_manifest_may_not_name_files_elsewhere(checkpoint: Path, refused: Any) -> None:
    file = checkpoint / MANIFEST
    content = json.loads(file.read_text())
    for name in ("../secret", "/etc/passwd", "sub/x", ".."):
        (checkpoint / MANIFEST).write_text(json.dumps(content))
        _sign_with_file(checkpoint, name)
        refused("named without its folder", "verify", checkpoint)


def _sign_with_file(folder: Path, name: str) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    content["files"][name] = {"sha256": "0" * 64, "bytes": 0}
    content[SELF] = ""
    content[SELF] = hashlib.sha256(_manifest._bytes(content)).hexdigest()
    (folder / MANIFEST).write_bytes(_manifest._bytes(content))


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path, canary: Any) -> None:
    for file in checkpoint.glob("*.py"):
        file.write_text(canary.code)
    with pytest.raises(CheckpointError, match="not as it was written"):
        trimtab.load(checkpoint)
    sign(checkpoint)
    trimtab.verify(checkpoint)
    assert canary.silent()
