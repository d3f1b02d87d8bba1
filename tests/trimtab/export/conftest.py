"""Small random models of every family, and checkpoints that hold them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trimtab.emission._folder import _tensor_shapes
from trimtab.emission._manifest import MANIFEST, SELF, read_manifest, write_manifest
from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"type_vocab_size": 1, "positions_skip_padding": True, "pad_token_id": 1},
    "distilbert": {
        "type_vocab_size": 0,
        "dropout_after_attention": False,
        "head_activation": "relu",
    },
    "electra": {"embedding_size": 24, "head_activation": "gelu", "dropout_before_head": True},
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All tests here run models."""


def make_model(family: str = "bert", **changes: Any) -> TrimtabForSequenceClassification:
    settings = {
        "vocab_size": 90,
        "hidden_size": 32,
        "head_dim": 8,
        "heads_per_layer": [3, 1],
        "filters_per_layer": [40, 17],
        "max_position_embeddings": 40,
        "num_labels": 3,
    }
    torch.manual_seed(0)
    config = TrimtabConfig(family=family, **(settings | FAMILIES[family] | changes))
    model: TrimtabForSequenceClassification = TrimtabForSequenceClassification(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.25)
    return model


@pytest.fixture
def random_model() -> Callable[..., TrimtabForSequenceClassification]:
    """Makes one: ``random_model("distilbert", heads_per_layer=[0, 3])``."""
    return make_model


@pytest.fixture
def checkpoint_of(finished: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a model as a checkpoint whose hashes are right."""

    def write(model: TrimtabForSequenceClassification, name: str = "checkpoint") -> Path:
        folder = Path(shutil.copytree(finished.checkpoint, tmp_path / name))
        known = read_manifest(folder)
        model.save_pretrained(folder)
        facts = {key: known[key] for key in known if key not in ("format", "files", SELF)}
        (folder / MANIFEST).unlink()
        write_manifest(folder, {**facts, "tensors": _tensor_shapes(folder / "model.safetensors")})
        return folder

    return write
