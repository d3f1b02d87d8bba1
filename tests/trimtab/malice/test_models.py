"""Models made to do harm: each is refused in a clear line by the commands, and nothing runs."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from trimtab_workers.errors import ModelError
from trimtab_workers.sources import load_stock_model, load_tokenizer

Build = Callable[[Path, Any], object]
"""Turns a whole model's folder into a bad one, given the canary."""

pickled = methodcaller("pickled")
saved_by_torch, saved_by_numpy = methodcaller("saved_by_torch"), methodcaller("saved_by_numpy")


def only(name: str, content: Callable[[Any], bytes]) -> Build:
    """Gives the folder weights of that kind and no others."""

    def build(folder: Path, canary: Any) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(content(canary))

    return build


def with_json(name: str, **changes: Any) -> Build:
    return lambda folder, canary: canary.rewrite(folder / name, changes)


def shards_of_pickles(folder: Path, canary: Any) -> None:
    only("pytorch_model-00001-of-00001.bin", saved_by_torch)(folder, canary)
    names = {"weight_map": {"bert.x": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(names))


def index_to(name: str) -> Build:
    def build(folder: Path, canary: Any) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(canary.saved_by_torch())
        index = {"weight_map": {"bert.x": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return build


def adapter(folder: Path, canary: Any) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    (folder / "adapter_model.bin").write_bytes(canary.saved_by_torch())


def link_out(name: str) -> Build:
    def build(folder: Path, canary: Any) -> None:
        outside = (folder / name).rename(folder.parent / "secret")
        (folder / name).symlink_to(outside)

    return build


def archive_for_folder(folder: Path, canary: Any) -> None:
    shutil.rmtree(folder)
    with tarfile.open(folder, "w") as archive:
        archive.addfile(tarfile.TarInfo("../../canary"))


NO_OTHER = "has only|got only"
MODELS: dict[str, tuple[Build, str]] = {
    "pytorch_model.bin": (only("pytorch_model.bin", saved_by_torch), NO_OTHER),
    "model.pt": (only("model.pt", saved_by_torch), NO_OTHER),
    "model.pth": (only("model.pth", pickled), NO_OTHER),
    "model.pkl": (only("model.pkl", pickled), NO_OTHER),
    "model.joblib": (only("model.joblib", pickled), NO_OTHER),
    "weights.npy": (only("weights.npy", saved_by_numpy), NO_OTHER),
    "last.ckpt": (only("last.ckpt", saved_by_torch), NO_OTHER),
    "TF_MODEL.H5": (only("TF_MODEL.H5", pickled), NO_OTHER),
    "flax_model.msgpack": (only("flax_model.msgpack", pickled), NO_OTHER),
    "model.onnx": (only("model.onnx", pickled), NO_OTHER),
    "shards of pickles": (shards_of_pickles, NO_OTHER),
    "a pickle by another name": (only("model.safetensors", pickled), "not well-formed"),
    "a zip by another name": (only("model.safetensors", saved_by_torch), "not well-formed"),
    "a header without end": (
        only("model.safetensors", lambda canary: b"\xff" * 8 + canary.pickled()),
        "header is longer than the file",
    ),
    "a header without bottom": (
        only("model.safetensors", lambda _: (200_000).to_bytes(8, "little") + b"[" * 200_000),
        "not well-formed",
    ),
    "a shard elsewhere": (index_to("../elsewhere.safetensors"), "in this folder|has none"),
    "a shard of pickles": (index_to("model.bin"), "in this folder|has only"),
    "code for the model": (
        with_json("config.json", auto_map={"AutoModel": "modeling_x.M"}),
        "auto_map must be absent",
    ),
    "code in a nested config": (
        with_json("config.json", text={"auto_map": {"AutoConfig": "someone/repo--m.C"}}),
        "auto_map must be absent",
    ),
    "a kernel for attention": (
        with_json("config.json", _attn_implementation="someone/kernel"),
        "kernels from elsewhere are not loaded",
    ),
    "code for the tokenizer": (
        with_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.T", None]}),
        "auto_map must be absent",
    ),
    "a pickle for a tokenizer": (
        lambda folder, canary: (folder / "tokenizer.json").write_bytes(canary.pickled()),
        "tokenizer cannot be loaded",
    ),
    "an adapter": (adapter, "merge it first"),
    "linked weights": (link_out("model.safetensors"), "this is a link"),
    "a linked vocabulary": (link_out("vocab.txt"), "this is a link"),
    "an archive": (archive_for_folder, "must be a (local )?folder"),
}


def test_there_are_many_cases() -> None:
    """With those of data and checkpoints beside this file, more than the thirty required."""
    assert len(MODELS) >= 25


def test_the_canary_sings(canary: Any) -> None:
    """Else the tests below would prove nothing."""
    import torch

    for content in (canary.pickled(), canary.pickled(5)):
        with pytest.raises(OSError, match="no network"):
            pickle.loads(content)
        assert canary.file.exists() and canary.calls
        canary.file.unlink()
    with pytest.raises(OSError, match="no network"):
        torch.load(io.BytesIO(canary.saved_by_torch()), weights_only=False)
    assert not canary.silent()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_refused(name: str, study: Path, refused: Any, canary: Any) -> None:
    build, message = MODELS[name]
    folder = study / "starter" / "tiny-bert"
    build(folder, canary)
    for verb in ("plan", "run"):
        refused(message, verb, study / "spec.yaml", "--db", f"sqlite:///{study}/x.db")
    if folder.is_dir():
        with pytest.raises(ModelError, match=message):
            load_tokenizer(folder)
            load_stock_model(folder, num_labels=2)
