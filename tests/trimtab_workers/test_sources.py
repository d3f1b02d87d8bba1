import importlib
import json
import sys

import pytest

from trimtab_workers.errors import ModelError
from trimtab_workers.sources import (
    check_model_folder,
    model_fingerprint,
    read_config,
    resolve_model,
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package that leaves a canary when it is imported."""
    root = tmp_path / "site" / "shipping_models"
    (root / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "site" / "secret").mkdir()
    canary = tmp_path / "canary"
    (root / "__init__.py").write_text(f"open({str(canary)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return root, canary


def test_local_folder_is_made_absolute(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("m") == tmp_path / "m"
    assert resolve_model("./m") == tmp_path / "m"


def test_home_is_understood(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/m") == tmp_path / "m"


def test_package_is_located_without_importing_it(package):
    root, canary = package
    assert resolve_model("package:shipping_models/models/tiny") == root / "models" / "tiny"
    assert resolve_model("package:shipping_models") == root
    assert "shipping_models" not in sys.modules
    assert not canary.exists()


def test_package_folder_must_stay_inside(package):
    root, canary = package
    (root / "way_out").symlink_to(root.parent / "secret")
    for inside in ("../secret", "models/../../secret", "way_out", "/etc"):
        with pytest.raises(ModelError, match="must stay inside the package 'shipping_models'"):
            resolve_model(f"package:shipping_models/{inside}")
    with pytest.raises(ModelError, match="has no folder 'model/tiny'; did you mean 'models'"):
        resolve_model("package:shipping_models/model/tiny")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("package:no_such_package_at_all/x", "no installed package 'no_such_package_at_all'"),
        ("package:json.decoder/x", "with a top-level package, got 'json.decoder'"),
        ("package:../x", "with a top-level package, got '..'"),
        ("package:", "with a top-level package, got ''"),
        ("package:__main__/x", "no installed package '__main__'"),
        ("./nowhere/at/all", "must be a local folder, package:NAME/sub/folder or a hub id"),
        ("https://example.org/m", "must be a local folder"),
        ("../x", "must be a local folder"),
        ("owner/name@not-a-revision", "must be a local folder"),
        ("owner/name", "if it is a model on the hub, allow it with --allow-hub"),
    ],
)
def test_what_cannot_be_resolved_says_why(reference, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message):
        resolve_model(reference, allow_hub=False)


def test_hub_fetches_only_weights_and_words(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def fetch(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert resolve_model("owner/na.me@0123abc", allow_hub=True) == tmp_path
    assert asked == {
        "repository": "owner/na.me",
        "repo_type": "model",
        "revision": "0123abc",
        "local_files_only": False,
        "allow_patterns": ["*.safetensors", "*.json", "*.txt"],
    }


def test_hub_failure_is_one_line(monkeypatch):
    import huggingface_hub

    def fail(repository, **options):
        raise OSError("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=r"owner/name: the hub did not deliver .*\(no network\)"):
        resolve_model("owner/name", allow_hub=True)


def test_facts_of_a_bare_encoder(saved_models):
    facts = check_model_folder(saved_models["bert"])
    assert (facts.model_type, facts.has_head) == ("bert", False)
    assert (facts.max_positions, facts.vocab_size, facts.pad_token_id) == (64, 40, 0)
    shape = (facts.hidden_size, facts.num_layers, facts.num_heads, facts.intermediate_size)
    assert shape == (32, 2, 4, 64)


def test_facts_of_a_head(saved_models):
    facts = check_model_folder(saved_models["bert-head"])
    assert facts.has_head
    assert facts.num_labels == 3
    assert facts.id2label == {0: "negative", 1: "positive", 2: "mixed"}


def test_roberta_cannot_use_all_its_positions(saved_models):
    facts = check_model_folder(saved_models["roberta"])
    assert (facts.max_positions, facts.pad_token_id, facts.type_vocab_size) == (64, 1, 1)


@pytest.mark.parametrize(
    ("name", "types"), [("distilbert-head", 0), ("electra-head", 2), ("electra-told", 2)]
)
def test_facts_of_other_families(saved_models, name, types):
    facts = check_model_folder(saved_models[name])
    assert (facts.model_type, facts.has_head) == (name.split("-")[0], name.endswith("-head"))
    assert (facts.max_positions, facts.pad_token_id, facts.type_vocab_size) == (64, 0, types)
    shape = (facts.hidden_size, facts.num_layers, facts.num_heads, facts.intermediate_size)
    assert shape == (32, 2, 4, 64)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("distilbert", {"dim": None}, "dim must be a whole number from 1 on, got None"),
        ("distilbert", {"n_heads": 5}, "dim must be a multiple of n_heads, got 32 and 5"),
        ("distilbert", {"hidden_dim": "64"}, "hidden_dim must be a whole number"),
        ("distilbert", {"activation": "a/b"}, "activation must be one of gelu"),
        ("electra", {"embedding_size": 0}, "embedding_size must be a whole number from 1 on"),
    ],
)
def test_what_is_wrong_is_named_as_in_the_file(make_model, name, changes, message):
    folder = make_model(name)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelError, match=rf"config\.json: {message}"):
        check_model_folder(folder)


def test_settings_of_another_family_mean_nothing(make_model):
    folder = make_model("distilbert")
    path = folder / "config.json"
    stray = {"type_vocab_size": 2, "layer_norm_eps": 0.5, "hidden_act": "relu", "hidden_size": 7}
    path.write_text(json.dumps({**json.loads(path.read_text()), **stray}))
    facts = check_model_folder(folder)
    assert (facts.type_vocab_size, facts.hidden_size) == (0, 32)
    assert not stray.keys() & read_config(folder).keys()


def test_id2label_is_ordered_by_number(make_model):
    folder = make_model("bert-head")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): f"c{i}" for i in (10, 2, 0, 1, *range(3, 10))}
    (folder / "config.json").write_text(json.dumps(config))
    names = check_model_folder(folder).id2label
    assert list(names.items()) == [(i, f"c{i}") for i in range(11)]


def test_fingerprint_covers_config_weights_and_tokenizer(make_model, saved_models):
    folder = make_model()
    first = model_fingerprint(folder)
    assert first == model_fingerprint(saved_models["bert"])
    assert len(first) == 64
    (folder / "README.md").write_text("words")
    assert model_fingerprint(folder) == first
    seen = {first}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        with (folder / name).open("a") as file:
            file.write("\n")
        seen.add(model_fingerprint(folder))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    seen.add(model_fingerprint(folder))
    assert len(seen) == 5
