"""Folders of elastic models: what of their configuration is kept, and where logits are made."""

import json
import shutil

import pytest
import torch

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic
from trimtab_workers import devices
from trimtab_workers.errors import ModelError
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


THRESHOLD = {"kind": "threshold", "normaliser": "live", "reference_length": 9}
EXITS = {"layers": [0], "kind": "mlp", "read": "both", "width": 6}


@pytest.mark.parametrize(
    "settings",
    [
        {"token_rule": THRESHOLD, "knobs": {"delta_scale": 1.5}},
        {"token_rule": {"kind": "share", "shares": [1, 0.5]}, "knobs": {"alpha_sc": 0}},
        {"exits": EXITS, "knobs": {"tau": -1}},
        {"exits": {**EXITS, "kind": "linear"}, "knobs": {"tau": 0.5, "exits": [0]}},
        {"exits": {**EXITS, "kind": "linear", "width": 65_536}, "knobs": {"agreements": 1024}},
        {"exits": {**EXITS, "kind": "attention", "read": "first"}, "knobs": {"patience": 1}},
        {"token_rule": {**THRESHOLD, "normaliser": "fixed"}, "exits": {**EXITS, "read": "mean"}},
    ],
    ids=str,
)
def test_rules_exits_and_knobs_are_kept(elastic, settings):
    model = with_settings(elastic, settings)
    knobs = settings.get("knobs", {})
    point = {"flops_ratio": 0.5, "drop": 0.1, "metric": 0.5, "knobs": knobs}
    change(elastic, operating_points=[point, {**point, "knobs": {}}])
    loaded = load_elastic(elastic)
    assert {key: getattr(loaded.config, key) for key in settings} == settings
    assert loaded.set_operating_point(max_flops=0.5)["knobs"] == knobs
    ids = torch.tensor([[2, 7, 9, 3], [2, 8, 5, 3]])
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


def with_settings(folder, settings):
    """Writes the model of a folder again with a rule or exits of random weights."""
    before = load_elastic(folder)
    torch.manual_seed(0)
    model = TrimtabForSequenceClassification(
        TrimtabConfig(**{**before.config.to_dict(), **settings})
    )
    model.load_state_dict(before.state_dict(), strict=False)
    save_elastic(model.eval(), folder)
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exits": {**EXITS, "width": 7}}, "got mismatched_keys .*exits.0.dense.bias.*and 2 more"),
        ({"exits": {**EXITS, "kind": "linear"}}, "unexpected_keys 'exits.0.dense.bias'"),
        ({"exits": None}, "unexpected_keys 'exits.0.dense.bias'"),
    ],
)
def test_exits_of_another_shape_are_refused_in_one_line(elastic, changes, message):
    with_settings(elastic, {"exits": EXITS})
    change(elastic, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_elastic(elastic)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


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
