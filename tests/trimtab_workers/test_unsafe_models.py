"""Folders that would run code, fetch something or mean something else are refused unopened."""

import json
import os
import pickle
import socket

import pytest

from trimtab_workers.errors import ModelError
from trimtab_workers.sources import check_model_folder, load_stock_model, load_tokenizer


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def change(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder, message):
    for use in (check_model_folder, lambda path: load_stock_model(path, num_labels=2)):
        with pytest.raises(ModelError, match=message) as caught:
            use(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "model.pth", "m.pkl", "m.joblib", "w.npy", "m.ckpt", "M.BIN"],
)
def test_pickled_weights_alone_are_refused_unopened(make_model, tmp_path, name):
    folder, canary = make_model(), tmp_path / "canary"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(canary)))
    refused(folder, f"weights must be model.safetensors, got only {name}; such files can run code")
    assert not canary.exists()


def test_pickled_weights_beside_safetensors_are_not_touched(make_model, tmp_path):
    folder, canary = make_model(), tmp_path / "canary"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(canary)))
    load_stock_model(folder, num_labels=2)
    assert not canary.exists()


def test_code_in_the_folder_is_not_run(make_model, tmp_path):
    folder, canary = make_model(), tmp_path / "canary"
    for name in ("modeling_x.py", "configuration_x.py", "tokenization_x.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w')\n")
    code = {"AutoConfig": "configuration_x.C", "AutoModelForSequenceClassification": "modeling_x.M"}
    change(folder, auto_map=code)
    refused(folder, "auto_map must be absent, as it names code to run")
    change(folder, auto_map=None, nested={"deep": [{"auto_map": code}]})
    refused(folder, "auto_map must be absent")
    assert not canary.exists()


def test_code_of_the_tokenizer_is_not_run(make_model, tmp_path):
    folder, canary = make_model(), tmp_path / "canary"
    (folder / "tokenization_x.py").write_text(f"open({str(canary)!r}, 'w')\n")
    change(
        folder,
        "tokenizer_config.json",
        tokenizer_class="XTokenizer",
        auto_map={"AutoTokenizer": ["tokenization_x.XTokenizer", None]},
    )
    with pytest.raises(ModelError, match="tokenizer_config.json: auto_map must be absent"):
        load_tokenizer(folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_attn_implementation": "someone/repo"}, "eager, sdpa or absent, got 'someone/repo'"),
        ({"attn_implementation": "flash_attention_2"}, "got 'flash_attention_2'; kernels from"),
        ({"_attn_implementation": {"": "a/b"}}, "_attn_implementation must be one of"),
        ({"_attn_implementation_internal": "a/b"}, "_attn_implementation_internal must be one of"),
        ({"_experts_implementation": "a/b:c"}, "_experts_implementation must be one of"),
        ({"text_config": {"_attn_implementation": "a/b"}}, "got 'a/b'"),
        ({"quantization_config": {"quant_method": "x"}}, "quantization_config must be null or abs"),
        ({"is_decoder": True}, "is_decoder must be false or absent; only encoders"),
        ({"add_cross_attention": True}, "only encoders are built"),
        ({"position_embedding_type": "relative_key"}, 'must be "absolute" or absent'),
        ({"problem_type": "regression"}, "problem_type must be"),
        ({"model_type": "gpt2"}, r"families that are built \(bert, roberta\), got 'gpt2'"),
        ({"model_type": None}, "got None"),
        ({"hidden_act": "someone/kernel"}, "hidden_act must be a plain name, got 'someone/kernel'"),
        ({"architectures": ["a/b.Model"]}, "architectures must be a plain name"),
        ({"hidden_size": "32"}, "hidden_size must be a whole number from 1 on, got '32'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1 on, got 0"),
        ({"vocab_size": None}, "vocab_size must be a whole number"),
        ({"pad_token_id": -1}, "pad_token_id must be a whole number from 0 on, got -1"),
        ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must give the ids from 0 on"),
        ({"id2label": {"0": "a", "1": "a"}}, "all different"),
        ({"id2label": ["a"]}, "id2label must give the ids"),
    ],
)
def test_configs_that_ask_for_more_are_refused(make_model, changes, message):
    folder = make_model()
    change(folder, **changes)
    refused(folder, message)


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation": "eager"},
        {"_attn_implementation": None, "_attn_implementation_autoset": True},
        {"_name_or_path": "google/bert", "someday": {"new": "key/value"}},
        {"position_embedding_type": "absolute", "problem_type": None, "quantization_config": None},
    ],
)
def test_harmless_configs_load(make_model, changes):
    folder = make_model()
    change(folder, **changes)
    assert load_stock_model(folder, num_labels=2).config._attn_implementation == "sdpa"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * 2_000_000])
def test_config_that_is_no_small_object_is_refused(make_model, content):
    folder = make_model()
    (folder / "config.json").write_bytes(content)
    refused(folder, r"config.json: the file must (be well-formed JSON|hold one|have at most)")


def test_missing_parts_are_named(make_model, tmp_path):
    with pytest.raises(ModelError, match="there is no such model folder"):
        check_model_folder(tmp_path / "nowhere")
    folder = make_model()
    (folder / "model.safetensors").unlink()
    refused(folder, "must have model.safetensors, and there is none")
    (folder / "config.json").unlink()
    refused(folder, "config.json: a model folder must have this file")


def test_adapters_are_refused(make_model):
    folder = make_model()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/repo"}')
    refused(folder, "this is an adapter; merge it first")


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
