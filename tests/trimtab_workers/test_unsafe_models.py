"""Folders whose files are torn, missing or lead elsewhere are refused; what is harmless loads.

`tests/trimtab/malice` holds the ones that would run code.
"""

import json
import os
import pickle
import shutil
import struct

import pytest

from trimtab_workers.errors import ModelError
from trimtab_workers.sources import check_model_folder, load_stock_model, load_tokenizer


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


def refused(folder, message):
    for use in (check_model_folder, lambda path: load_stock_model(path, num_labels=2)):
        with pytest.raises(ModelError, match=message) as caught:
            use(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


def test_pickled_weights_beside_safetensors_are_not_touched(make_model, tmp_path):
    folder, canary = make_model(), tmp_path / "canary"
    for name in ("pytorch_model.bin", "tf_model.h5", "model.onnx", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    load_stock_model(folder, num_labels=2)
    load_tokenizer(folder)
    assert not canary.exists()


def test_missing_parts_are_named(make_model, tmp_path):
    with pytest.raises(ModelError, match="there is no such model folder"):
        check_model_folder(tmp_path / "nowhere")
    folder = make_model()
    (folder / "model.safetensors").unlink()
    refused(folder, "must have model.safetensors, and there is none")
    (folder / "config.json").unlink()
    refused(folder, "config.json: a model folder must have this file")


def test_torn_weights_are_refused(make_model):
    folder = make_model()
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for content, message in (
        (whole[:-7], f"must have {len(whole)} bytes, got {len(whole) - 7}"),
        (whole + b"\0", "copy it again"),
        (b"", "not well-formed safetensors"),
        (b"\xff" * 64, "header is longer than the file"),
        (whole[:8] + b"x" + whole[9:], "not well-formed safetensors"),
        (pickle.dumps([1] * 100), "not well-formed safetensors"),
    ):
        file.write_bytes(content)
        refused(folder, message)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        "[]",
        '{"a": []}',
        '{"a": {}}',
        '{"a": {"data_offsets": 4}}',
        '{"a": {"data_offsets": [0]}}',
        '{"a": {"data_offsets": ["0", "4"]}}',
        '{"a": {"data_offsets": [0, 4.0]}}',
        '{"a": {"data_offsets": [0, true]}}',
        '{"a": {"data_offsets": [4, 0]}}',
        '{"a": {"data_offsets": [-4, 0]}}',
        '{"a": {"data_offsets": [0, NaN]}}',
        '{"a": {"data_offsets": [0, 1e999]}}',
        '{"a": {"data_offsets": [0, ' + "9" * 5000 + "]}}",
        '{"a": {"data_offsets": [0, 9' + "0" * 30 + "]}}",
    ],
    ids=lambda header: header[:40],
)
def test_a_header_that_makes_no_sense_is_refused(make_model, header):
    folder = make_model()
    text = header.encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    refused(folder, "not well-formed safetensors|copy it again")


def test_shards_must_lie_in_the_folder(make_model):
    folder = make_model()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    for name, message in (
        ("../x.safetensors", "in this folder, got '../x.safetensors'"),
        ("model.bin", "in this folder, got 'model.bin'"),
        ("gone.safetensors", "the weight file gone.safetensors of the index is missing"),
    ):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        refused(folder, message)
    index.write_text("{}")
    refused(folder, "weight_map must name the file of every tensor")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_out_of_the_folder_are_refused(make_model, name):
    folder = make_model()
    outside = (folder / name).rename(folder.parent / "outside")
    (folder / name).symlink_to(outside)
    refused(folder, f"{name}: a model's files must lie in its folder, but this is a link to")


def test_a_vocabulary_that_is_a_link_to_elsewhere_is_refused(make_model, tmp_path):
    folder = make_model()
    (tmp_path / "secret").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhunter2\n")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"vocab\.txt: a model's files must lie in its folder"):
        load_tokenizer(folder)


@pytest.mark.parametrize("inside", ["", "encoder"])
def test_links_inside_the_cache_of_the_hub_are_its_own(saved_models, tmp_path, inside):
    blobs = tmp_path / "models--owner--name" / "blobs"
    folder = blobs.parent / "snapshots" / ("0" * 40) / inside
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for file in saved_models["bert"].iterdir():
        shutil.copy(file, blobs / f"blob-{file.name}")
        target = os.path.relpath(blobs / f"blob-{file.name}", folder)
        (folder / file.name).symlink_to(target)
    check_model_folder(folder)
    load_stock_model(folder, num_labels=2)
    load_tokenizer(folder)
    moved = (blobs / "blob-config.json").rename(tmp_path / "elsewhere")
    (blobs / "blob-config.json").symlink_to(moved)
    refused(folder, "this is a link to")


def test_a_folder_that_is_a_link_itself_loads(saved_models, tmp_path):
    (tmp_path / "link").symlink_to(saved_models["bert"])
    load_tokenizer(tmp_path / "link")
    load_stock_model(tmp_path / "link", num_labels=2)
