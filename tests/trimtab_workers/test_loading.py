import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from trimtab_workers.errors import ModelError
from trimtab_workers.sources import load_stock_model, load_tokenizer


def edit_weights(folder, edit):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "roberta",
        "distilbert",
        "electra",
        "bert-masked",
        "distilbert-masked",
        "electra-masked",
        "electra-told",
    ],
)
def test_fresh_head_is_seeded_and_named(saved_models, name):
    folder = saved_models[name]
    names = {0: "x", 1: "y", 2: "z"}
    one = load_stock_model(folder, num_labels=3, id2label=names, seed=1)
    same = load_stock_model(folder, num_labels=3, id2label=names, seed=1)
    other = load_stock_model(folder, num_labels=3, id2label=names, seed=2)
    assert one.config.id2label == names
    assert one.config.label2id == {"x": 0, "y": 1, "z": 2}
    assert one.num_labels == 3
    equal = [torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True)]
    assert all(equal)
    differ = [k for k, v in one.state_dict().items() if not torch.equal(v, other.state_dict()[k])]
    assert differ
    assert all(
        key.startswith(("classifier.", "pre_classifier.")) or "pooler" in key for key in differ
    )


def test_fresh_head_is_the_same_in_another_process_which_prints_nothing(saved_models):
    folder = saved_models["bert-masked"]
    code = (
        "import sys, pathlib; from trimtab_workers.sources import load_stock_model\n"
        "m = load_stock_model(pathlib.Path(sys.argv[1]), num_labels=3, seed=1)\n"
        "print([t.double().sum().item() for t in m.state_dict().values()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    here = load_stock_model(folder, num_labels=3, seed=1)
    assert done.stdout == f"{[t.double().sum().item() for t in here.state_dict().values()]}\n"
    assert done.stderr == ""


def test_loading_leaves_the_random_state_alone(saved_models):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_stock_model(saved_models["bert"], num_labels=2, seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_head_is_loaded_as_it_is(saved_models):
    folder = saved_models["bert-head"]
    model = load_stock_model(folder, num_labels=3)
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(model.classifier.weight, stored["classifier.weight"])
    assert model.config.id2label == {0: "negative", 1: "positive", 2: "mixed"}
    assert not model.training


@pytest.mark.parametrize("name", ["distilbert-head", "electra-head"])
def test_other_families_keep_their_head_and_its_names(saved_models, name):
    model = load_stock_model(saved_models[name])
    stored = load_file(saved_models[name] / "model.safetensors")
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[key])
    assert model.config.label2id == {"negative": 0, "positive": 1, "mixed": 2}


def test_half_precision_becomes_single(make_model):
    folder = make_model("bert-head")
    edit_weights(folder, lambda t: t.update({k: v.half() for k, v in t.items()}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert {p.dtype for p in load_stock_model(folder).parameters()} == {torch.float32}


def test_sharded_weights_load(make_model, saved_models):
    folder = make_model("bert-head")
    load_stock_model(folder).save_pretrained(folder, max_shard_size="10KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("*.safetensors"))) > 1
    expected = load_stock_model(saved_models["bert-head"]).state_dict()
    for key, value in load_stock_model(folder).state_dict().items():
        assert torch.equal(value, expected[key])


def test_number_of_classes_must_be_known_and_agree(saved_models):
    with pytest.raises(ModelError, match="has no head, so the number of classes is needed"):
        load_stock_model(saved_models["bert"])
    with pytest.raises(ModelError, match="head has 3 classes, but 2 are needed; use a model"):
        load_stock_model(saved_models["bert-head"], num_labels=2)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (
            "bert",
            lambda t: t.pop("encoder.layer.1.output.dense.weight"),
            "missing .*layer.1.output",
        ),
        ("bert-head", lambda t: t.pop("classifier.bias"), "missing 'classifier.bias'"),
        (
            "bert-head",
            lambda t: t.pop("bert.pooler.dense.bias"),
            "missing 'bert.pooler.dense.bias'",
        ),
        ("roberta-head", lambda t: t.pop("classifier.out_proj.bias"), "missing 'classifier.out"),
        ("distilbert-head", lambda t: t.pop("pre_classifier.bias"), "missing 'pre_classifier.bias"),
        ("electra-head", lambda t: t.pop("classifier.dense.bias"), "missing 'classifier.dense"),
        ("electra", lambda t: t.pop("embeddings_project.bias"), "missing 'electra.embeddings_proj"),
        (
            "distilbert-head",
            lambda t: t.update({"vocab_projector.bias": torch.ones(2)}),
            "left over 'vocab_projector.bias'",
        ),
        ("bert", lambda t: t.update(stray=torch.ones(2)), "left over 'stray'"),
        ("bert-head", lambda t: t.update({"cls.x": torch.ones(2)}), "left over 'cls.x'"),
        (
            "bert-head",
            lambda t: t.update({"classifier.weight": torch.ones(2, 32)}),
            "of another shape",
        ),
        (
            "bert",
            lambda t: t["embeddings.LayerNorm.weight"].fill_(float("nan")),
            "weights must be finite, but bert.embeddings.LayerNorm.weight is not",
        ),
    ],
)
def test_every_tensor_must_fit(make_model, name, edit, message):
    folder = make_model(name)
    edit_weights(folder, edit)
    with pytest.raises(ModelError, match=message) as caught:
        load_stock_model(folder, num_labels=3)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_buffers_of_old_releases_are_no_fault(make_model):
    folder = make_model("bert-head")
    edit_weights(
        folder, lambda t: t.update({"bert.embeddings.position_ids": torch.arange(64)[None]})
    )
    load_stock_model(folder)


def test_a_head_of_another_task_does_not_pass_for_a_fresh_one(make_model):
    folder = make_model("bert-head")
    config = json.loads((folder / "config.json").read_text())
    for declared in (["BertForTokenClassification"], None):
        (folder / "config.json").write_text(json.dumps({**config, "architectures": declared}))
        with pytest.raises(
            ModelError, match=r"they have classifier\.bias; name it there"
        ) as caught:
            load_stock_model(folder, num_labels=config.get("num_labels", 2))
        assert "\n" not in str(caught.value)


def test_chunks_of_the_feed_forward_are_not_asked_for(make_model):
    folder = make_model("bert-head")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "chunk_size_feed_forward": 33}))
    assert load_stock_model(folder).config.chunk_size_feed_forward == 0


def test_unknown_activation_is_one_line(make_model):
    folder = make_model()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "nonesuch"}))
    with pytest.raises(ModelError, match="hidden_act must be one of gelu, .*nonesuch"):
        load_stock_model(folder, num_labels=2)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra"])
def test_tokenizer_knows_the_words(saved_models, name):
    tokenizer = load_tokenizer(saved_models[name])
    ids = tokenizer("the film is great")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the film is great"


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra"])
def test_plain_vocabulary_file_is_enough(make_model, name):
    folder = make_model(name)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    assert load_tokenizer(folder)("the film zzz")["input_ids"] == [2, 5, 6, 1, 3]


def test_model_without_tokenizer_is_refused(make_model):
    folder = make_model()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        ModelError, match=r"tokenizer.json or vocab.txt or vocab.json \+ merges.txt\), and there is"
    ):
        load_tokenizer(folder)


def test_broken_tokenizer_is_one_line(make_model):
    folder = make_model()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)
