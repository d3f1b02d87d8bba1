"""Models and datasets of the hub that lie in its cache, as its client lays them out."""

import hashlib
import json
import shutil

import pandas
import pytest

from trimtab_workers.data import load_task_data, read_rows
from trimtab_workers.errors import DataError, ModelError
from trimtab_workers.sources import (
    check_model_folder,
    load_stock_model,
    load_tokenizer,
    model_fingerprint,
    resolve_model,
)
from trimtab_workers.task import DataSource

COMMIT = "0123abc" + "d" * 33
OTHER = "0123abd" + "e" * 33
CARD = """---
configs:
- config_name: whole
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
- config_name: small
  data_files:
  - {split: train, path: small/train-*}
---
# A dataset
"""


class Hub:
    """A cache folder of the hub's client: blobs by hash, snapshots of links, refs."""

    def __init__(self, root):
        self.root = root

    def place(self, kind, name):
        return self.root / f"{kind}s--{name.replace('/', '--')}"

    def add(self, kind, name, files, commit=COMMIT, ref="main"):
        place = self.place(kind, name)
        for path, content in files.items():
            blob = place / "blobs" / hashlib.sha256(content).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = place / "snapshots" / commit / path
            link.parent.mkdir(parents=True, exist_ok=True)
            up = "../" * len(link.relative_to(place).parent.parts)
            link.symlink_to(f"{up}blobs/{blob.name}")
        if ref:
            (place / "refs").mkdir(exist_ok=True)
            (place / "refs" / ref).write_text(commit)
        return place / "snapshots" / commit


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache below a hidden folder, where it mostly is, and no way to the hub."""
    import datasets
    from huggingface_hub import constants

    root = tmp_path / ".cache" / "huggingface" / "hub"
    root.mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return Hub(root)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def parquet(rows, tmp_path, columns=("text", "label")):
    path = tmp_path / "rows.parquet"
    pandas.DataFrame(rows, columns=list(columns)).to_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["bert", "roberta-head", "distilbert", "electra-told"])
def test_models_made_of_links_load(hub, saved_models, name):
    stock = saved_models[name]
    hub.add("model", "owner/na.me", contents(stock))
    folder = resolve_model("owner/na.me", allow_hub=True)
    assert (folder / "model.safetensors").is_symlink()
    assert check_model_folder(folder) == check_model_folder(stock)
    assert model_fingerprint(folder) == model_fingerprint(stock)
    assert load_tokenizer(folder)("the film")["input_ids"]
    assert load_stock_model(folder, num_labels=3).num_labels == 3


def test_the_main_branch_is_meant_where_no_revision_is_named(hub, saved_models):
    old = hub.add("model", "owner/name", contents(saved_models["electra"]), OTHER, ref=None)
    new = hub.add("model", "owner/name", contents(saved_models["bert"]))
    assert resolve_model("owner/name", allow_hub=True) == new
    for revision, folder in ((OTHER, old), (OTHER[:7], old), (COMMIT, new), (COMMIT[:12], new)):
        assert resolve_model(f"owner/name@{revision}", allow_hub=True) == folder
    hub.add("model", "owner/name", contents(saved_models["bert"]), COMMIT[:-1] + "0", ref=None)
    with pytest.raises(ModelError, match=f"owner/name@{COMMIT[:9]}: the model is not in the cache"):
        resolve_model(f"owner/name@{COMMIT[:9]}", allow_hub=True)


@pytest.mark.parametrize("reference", ["owner/other", "owner/name@fedcba9", f"owner/name@{OTHER}"])
def test_a_model_that_is_not_in_the_cache_is_one_line(hub, saved_models, reference):
    hub.add("model", "owner/name", contents(saved_models["bert"]))
    with pytest.raises(ModelError) as caught:
        resolve_model(reference, allow_hub=True)
    message = str(caught.value)
    assert message.startswith(f"{reference}: the model is not in the cache {hub.root}")
    assert "offline mode is enabled" in message and "\n" not in message
    assert message.endswith("fetch it once with a network, or name a local folder")


def test_leave_is_needed_for_what_is_in_the_cache_too(hub, saved_models, tmp_path):
    hub.add("model", "owner/name", contents(saved_models["bert"]))
    hub.add("dataset", "owner/name", {"train.parquet": parquet([("x", 1)], tmp_path)})
    with pytest.raises(ModelError, match="allow it with --allow-hub"):
        resolve_model("owner/name")
    with pytest.raises(DataError, match="allow it with --allow-hub"):
        read_rows(DataSource(dataset="owner/name"), ["text"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin", "tf_model.h5"], "hub, only pytorch_model.bin, tf_model.h5; weights"),
        ([], "none came from the hub; weights of other kinds can run code"),
    ],
)
def test_a_repository_without_safetensors_is_refused(hub, saved_models, names, message):
    files = contents(saved_models["bert"])
    files |= {name: b"whatever" for name in names}
    del files["model.safetensors"]
    hub.add("model", "owner/name", files)
    with pytest.raises(ModelError, match=f"owner/name: weights must be .safetensors.*{message}"):
        resolve_model("owner/name", allow_hub=True)


def test_sharded_weights_of_links_load(hub, saved_models, tmp_path):
    model = load_stock_model(saved_models["bert-head"])
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    files = {
        name: content
        for name, content in contents(saved_models["bert-head"]).items()
        if not name.endswith(".safetensors")
    }
    hub.add("model", "owner/name", files | contents(tmp_path / "shards"))
    loaded = load_stock_model(resolve_model("owner/name", allow_hub=True))
    for key, tensor in model.state_dict().items():
        assert tensor.equal(loaded.state_dict()[key])


@pytest.fixture
def files(tmp_path):
    """A repository with two configurations, one of them in two shards."""
    part = [parquet([(f"row {i}", i % 2)], tmp_path) for i in range(5)]
    return {
        "README.md": CARD.encode(),
        "data/train-00000-of-00002.parquet": part[0],
        "data/train-00001-of-00002.parquet": part[1],
        "data/test-00000-of-00001.parquet": part[2],
        "small/train-00000-of-00001.parquet": part[3],
    }


def texts(name, config=None, split=None):
    source = DataSource(dataset=name, config=config, split=split)
    return read_rows(source, ["text", "label"], allow_hub=True)["text"]


@pytest.mark.parametrize("where", ["cache", "folder"])
def test_a_dataset_is_read_by_config_and_split(hub, files, tmp_path, where):
    folder = hub.add("dataset", "owner/rows", files)
    name = "owner/rows"
    if where == "folder":
        name = str(shutil.copytree(folder, tmp_path / "rows"))
    assert texts(name, "whole", "train") == ["row 0", "row 1"]
    assert texts(name, "whole", "test") == ["row 2"]
    assert texts(name, "small", "train") == texts(name, "small") == ["row 3"]
    for config, split, message in (
        (None, "train", "whole.*small"),
        ("whole", None, "say which split is meant; there are 'train', 'test'"),
        ("large", "train", "large.*whole.*small|whole.*small.*large"),
        ("small", "test", "test"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            texts(name, config, split)
        assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


def test_files_without_a_card_are_found_by_their_names(hub, tmp_path):
    files = {
        "data/train-00000-of-00001.parquet": parquet([("a", 0)], tmp_path),
        "data/validation-00000-of-00001.parquet": parquet([("b", 1)], tmp_path),
    }
    hub.add("dataset", "owner/rows", files)
    assert texts("owner/rows", split="train") == ["a"]
    assert texts("owner/rows", split="validation") == ["b"]
    hub.add("dataset", "owner/table", {"train.csv": b"text,label\nNA,1\n"})
    assert texts("owner/table") == ["NA"]


def test_a_revision_of_a_dataset_can_be_named(hub, tmp_path):
    for text, commit, ref in (("old", OTHER, None), ("new", COMMIT, "main")):
        hub.add("dataset", "o/d", {"train.parquet": parquet([(text, 1)], tmp_path)}, commit, ref)
    assert texts("o/d") == ["new"]
    assert texts(f"o/d@{OTHER}") == texts(f"o/d@{OTHER[:7]}") == ["old"]


def test_a_dataset_that_is_not_in_the_cache_is_one_line(hub):
    with pytest.raises(DataError) as caught:
        texts("owner/rows", "small", "train")
    message = str(caught.value)
    assert message.startswith(f"owner/rows:small:train: the dataset is not in the cache {hub.root}")
    assert "\n" not in message


class TimeoutException(Exception):  # noqa: N818  (so does the client's transport name it)
    pass


class ReadTimeout(TimeoutException):
    pass


@pytest.mark.parametrize("error", [ConnectionError, ConnectionRefusedError, ReadTimeout])
def test_the_cache_is_used_where_the_hub_does_not_answer(hub, files, monkeypatch, error):
    """As for models; the library itself would look into a cache of its own only."""
    import datasets

    real = datasets.load_dataset

    def load(path, **options):
        if path == "owner/rows":
            raise error("gone")
        return real(path, **options)

    monkeypatch.setattr(datasets, "load_dataset", load)
    hub.add("dataset", "owner/rows", files)
    assert texts("owner/rows", "whole", "train") == ["row 0", "row 1"]


def test_what_the_hub_answers_is_not_replaced_by_the_cache(hub, files, monkeypatch):
    import datasets

    def refuse(path, **options):
        raise PermissionError("a gated dataset")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    hub.add("dataset", "owner/rows", files)
    with pytest.raises(DataError, match="owner/rows:whole: the data cannot be read .a gated"):
        texts("owner/rows", "whole")


def test_a_dataset_of_which_a_part_is_missing_is_refused(hub, files):
    del files["data/train-00001-of-00002.parquet"]
    hub.add("dataset", "owner/rows", files)
    with pytest.raises(DataError, match="has only 1 of the 2 files of data/train"):
        texts("owner/rows", "whole", "train")


def test_a_card_in_the_cache_may_not_name_a_url_either(hub, files):
    card = CARD.replace("data/test-*", "https://example.org/test.csv")
    hub.add("dataset", "owner/rows", files | {"README.md": card.encode()})
    with pytest.raises(DataError, match="its card names a URL"):
        texts("owner/rows", "whole", "train")


def test_a_task_of_the_hub_alone(hub, toy_task, saved_models, rows_of, tmp_path):
    hub.add("model", "owner/model", contents(saved_models["distilbert"]))
    parts = {"train": rows_of(160, 1), "validation": rows_of(120, 2)}
    rows = {f"data/{k}-00000-of-00001.parquet": parquet(v, tmp_path) for k, v in parts.items()}
    hub.add("dataset", "owner/rows", rows)
    sources = {part: DataSource(dataset="owner/rows", split=part) for part in parts}
    data = load_task_data(
        toy_task(**sources, allow_hub=True), resolve_model("owner/model", allow_hub=True)
    )
    local = load_task_data(toy_task(), saved_models["distilbert"])
    assert data.fingerprint == local.fingerprint
    assert json.dumps(data.validation_lengths) == json.dumps(local.validation_lengths)
