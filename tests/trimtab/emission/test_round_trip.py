"""Fresh processes give the very logits that were stored, with trimtab and without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STORED = """
import json, sys
from pathlib import Path

import torch

def worst(folder, model):
    stored = json.loads((Path(folder) / "trimtab.json").read_text())["reference"]
    found = 0.0
    assert len(stored["input_ids"]) == 8
    for ids, logits in zip(stored["input_ids"], stored["logits"], strict=True):
        with torch.inference_mode():
            now = model(torch.tensor([ids])).logits[0]
        found = max(found, float((now - torch.tensor(logits)).abs().max()))
    return found
"""

ROUNDING = 2e-6
"""How products of a single row may differ between processes, by where their memory lies."""

WITH_TRIMTAB = """
import trimtab
loaded = {folder: worst(folder, trimtab.load(folder)) for folder in sys.argv[1:]}

import trimtab.hf
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
auto = {}
for folder in sys.argv[1:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(model).__module__.startswith("trimtab_strategies."), type(model).__module__
    assert not model.training
    assert AutoConfig.from_pretrained(folder).model_type == "trimtab"
    assert AutoTokenizer.from_pretrained(folder)("the old kettle").input_ids
    auto[folder] = worst(folder, model)
print(json.dumps([loaded, auto]))
"""

WITHOUT_TRIMTAB = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("trimtab"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
for name in ("trimtab", "trimtab_workers", "trimtab_strategies", "trimtab_storage"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")

from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

texts = ["the old kettle and the spoon", "she wrote about the fiddle , the drum"]
remote, said = {}, {}
for folder in sys.argv[1:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    remote[folder] = worst(folder, model)
    classify = pipeline("text-classification", model=folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    by_hand = []
    for text in texts:
        with torch.inference_mode():
            shares = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0)
        by_hand.append((model.config.id2label[int(shares.argmax())], float(shares.max())))
    said[folder] = [[(r["label"], r["score"]) for r in classify(texts)], by_hand]
assert not any(name.startswith("trimtab") for name in sys.modules)
print(json.dumps([remote, said]))
"""


@pytest.fixture(scope="module")
def folders(
    finished: Any, odd_checkpoints: dict[str, Path], finished_families: dict[str, Any]
) -> list[str]:
    others = [workspace.checkpoint for workspace in finished_families.values()]
    return [str(finished.checkpoint), *map(str, odd_checkpoints.values()), *map(str, others)]


def test_other_families_were_compressed(finished_families: dict[str, Any]) -> None:
    for name, workspace in finished_families.items():
        config = json.loads((workspace.checkpoint / "config.json").read_text())
        assert config["family"] == name
        manifest = json.loads((workspace.checkpoint / "trimtab.json").read_text())
        assert manifest["point"]["flops_ratio"] <= 0.5
        assert manifest["baseline"]["metric"] > 0.6, "three classes: it has learnt something"


def test_odd_checkpoints_are_odd(odd_checkpoints: dict[str, Path]) -> None:
    widths = {
        name: [
            json.loads((folder / "config.json").read_text())[f"{kind}_per_layer"]
            for kind in ("heads", "filters")
        ]
        for name, folder in odd_checkpoints.items()
    }
    assert widths == {
        "no-heads": [[0, 4], [256, 256]],
        "no-filters": [[4, 4], [256, 0]],
        "empty-layer": [[2, 0], [170, 0]],
    }


def test_with_trimtab_the_logits_are_the_stored_ones(
    folders: list[str], python: Callable[..., Any], tmp_path: Path
) -> None:
    ran = python(STORED + WITH_TRIMTAB, *folders, cwd=tmp_path)
    assert ran.code == 0, ran.err
    loaded, auto = json.loads(ran.out)
    assert loaded.keys() == auto.keys() == set(folders)
    assert max(*loaded.values(), *auto.values()) <= ROUNDING


def test_without_trimtab_the_logits_are_the_stored_ones(
    folders: list[str], python: Callable[..., Any], tmp_path: Path
) -> None:
    ran = python(
        STORED + WITHOUT_TRIMTAB, *folders, cwd=tmp_path, HF_MODULES_CACHE=str(tmp_path / "modules")
    )
    assert ran.code == 0, ran.err
    remote, said = json.loads(ran.out)
    assert remote.keys() == set(folders)
    assert max(remote.values()) <= ROUNDING
    for piped, by_hand in said.values():
        assert [label for label, _ in piped] == [label for label, _ in by_hand]
        assert [score for _, score in piped] == pytest.approx(
            [score for _, score in by_hand], abs=1e-6
        )
    assert {label for piped, _ in said.values() for label, _ in piped} <= {
        "garden",
        "kitchen",
        "music",
    }


def test_a_model_can_be_saved_and_loaded_on(checkpoint: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    import trimtab
    import trimtab.hf

    model = trimtab.load(checkpoint)
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    assert isinstance(again, trimtab.hf.TrimtabForSequenceClassification)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
