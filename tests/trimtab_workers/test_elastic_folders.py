"""Folders of elastic models: what of their configuration is kept, and where logits are made."""

import json
import shutil

import pytest
import torch

from trimtab_strategies.families import to_elastic
from trimtab_workers import devices
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import Place, ReferenceJob, load_elastic
from trimtab_workers.jobs._place import save_elastic
from trimtab_workers.sources import load_stock_model


class Files:
    """One artifact, under any key."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, key):
        return self.folder


@pytest.fixture
def elastic(make_model, tmp_path):
    stock = make_model()
    folder = tmp_path / "elastic"
    shutil.copytree(stock, folder)
    (folder / "config.json").unlink()
    model = load_stock_model(stock, num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    save_elastic(to_elastic(model), folder)
    return folder


def change(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_other_keys_are_left_out_and_our_own_kept(elastic):
    before = load_elastic(elastic)
    change(elastic, auto_map={"AutoConfig": "x.C"}, tie_word_embeddings=True, use_cache="x", why=1)
    config = load_elastic(elastic).config
    assert not hasattr(config, "why") and getattr(config, "use_cache", None) != "x"
    assert getattr(config, "auto_map", None) is None
    assert config.to_dict() == before.config.to_dict()
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    change(elastic, _attn_implementation="eager")
    load_elastic(elastic)


def test_reference_logits_are_made_on_the_cpu(elastic, toy_task, saved_models, monkeypatch):
    """The one who compares runs there; on `meta`, where nothing is computed, this would fail."""
    place = Place(toy_task(), str(saved_models["bert"]), Files(elastic))
    context = WorkerContext("auto", lambda stage, done, total: None)
    monkeypatch.setattr(devices, "pick_device", lambda asked: torch.device("meta"))
    reference = ReferenceJob(place, "aaaa").run(context)
    model = load_elastic(elastic)
    for ids, logits in zip(reference.input_ids, reference.logits, strict=True):
        with torch.inference_mode():
            assert model(torch.tensor([ids])).logits[0].tolist() == logits
