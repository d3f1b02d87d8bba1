"""Weights that do not fit the model are refused, also where somebody signed them anew."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import trimtab
from trimtab.emission import CheckpointError

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], None]

LAYER = "layers.0."
MISSING = [
    "embeddings.word.weight",
    "embeddings.position.weight",
    "embeddings.norm.bias",
    f"{LAYER}qkv.weight",
    f"{LAYER}qkv.bias",
    f"{LAYER}attention_out.bias",
    f"{LAYER}attention_norm.weight",
    f"{LAYER}down.weight",
    "layers.1.up.bias",
    "layers.1.output_norm.weight",
    "head.dense.weight",
    "head.out.bias",
]
RENAMED = {
    f"{LAYER}qkv.weight": f"{LAYER}qvk.weight",
    f"{LAYER}up.bias": f"{LAYER}UP.bias",
    f"{LAYER}output_norm.bias": "layers.2.output_norm.bias",
    "head.out.weight": "classifier.weight",
    "embeddings.word.weight": "bert.embeddings.word_embeddings.weight",
    "layers.1.down.bias": "model.layers.1.down.bias",
    f"{LAYER}attention_norm.weight": f"{LAYER}attention_norm.gamma",
    f"{LAYER}attention_norm.bias": f"{LAYER}attention_norm.beta",
}
EXTRA = ["layers.2.up.weight", "extra", "head.out.weight_scale", "layers.0.qkv.lora_A.weight"]
RESHAPED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    f"{LAYER}qkv.weight": lambda t: t[:-1],
    f"{LAYER}up.weight": lambda t: t.T,
    f"{LAYER}down.weight": lambda t: torch.cat([t, t], dim=1),
    f"{LAYER}up.bias": lambda t: t[None],
    "embeddings.word.weight": lambda t: t[:-1],
    "embeddings.position.weight": lambda t: t.repeat(2, 1),
    "head.out.weight": lambda t: t[:1],
    "head.out.bias": lambda t: t.sum(),
    "layers.1.output_norm.bias": lambda t: t[:0],
    "layers.1.attention_out.weight": lambda t: t.flatten(),
}


def _without(name: str) -> Change:
    return lambda tensors: _drop(tensors, name)


def _renamed(old: str, new: str) -> Change:
    return lambda tensors: tensors.update({new: _drop(tensors, old)})


def _with(name: str) -> Change:
    return lambda tensors: tensors.update({name: torch.zeros(3)})


def _reshaped(name: str, shape: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda tensors: tensors.update({name: shape(_drop(tensors, name)).contiguous()})


def _drop(tensors: Tensors, name: str) -> torch.Tensor:
    return tensors.pop(name)


def _at_random(seed: int) -> Change:
    """Takes away, adds, renames, reshapes or exchanges tensors, one or several."""

    def change(tensors: Tensors) -> None:
        rng = random.Random(seed)
        names = rng.sample(sorted(tensors), rng.randint(1, 3))
        kind = rng.choice(["take", "add", "rename", "grow", "shrink", "exchange"])
        if kind == "exchange":
            other = next(n for n in sorted(tensors) if tensors[n].shape != tensors[names[0]].shape)
            tensors[names[0]], tensors[other] = tensors[other], tensors[names[0]]
            return
        for name in names:
            tensor = tensors[name] if kind == "add" else tensors.pop(name)
            if kind in ("add", "rename"):
                tensors[f"{name}{rng.choice('_x0')}"] = tensor.clone()
            elif kind != "take":
                new = torch.cat([tensor, tensor[:1]]) if kind == "grow" else tensor[1:]
                tensors[name] = new.contiguous()

    return change


CHANGES: dict[str, Change] = {
    **{f"without {name}": _without(name) for name in MISSING},
    **{f"{old} as {new}": _renamed(old, new) for old, new in RENAMED.items()},
    **{f"with {name}": _with(name) for name in EXTRA},
    **{f"reshaped {name}": _reshaped(name, shape) for name, shape in RESHAPED.items()},
    "without anything": lambda tensors: tensors.clear(),
    **{f"at random by seed {seed}": _at_random(seed) for seed in range(65)},
}


def rewrite(folder: Path, change: Change) -> dict[str, list[int]]:
    """Changes a checkpoint's weights and gives the names and shapes of what is there now."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def test_there_are_a_hundred_changes() -> None:
    assert len(CHANGES) >= 100


@pytest.mark.parametrize("what", CHANGES)
def test_weights_that_do_not_fit_are_refused(
    what: str, checkpoint: Path, resign: Callable[..., None]
) -> None:
    shapes = rewrite(checkpoint, CHANGES[what])
    resign(checkpoint, tensors=shapes)
    with pytest.raises(CheckpointError, match="cannot be loaded|not those that were written"):
        trimtab.load(checkpoint)


@pytest.mark.parametrize("what", list(CHANGES)[:36:6])
def test_they_are_refused_too_where_only_the_hashes_were_signed_anew(
    what: str, checkpoint: Path, resign: Callable[..., None]
) -> None:
    rewrite(checkpoint, CHANGES[what])
    resign(checkpoint)
    with pytest.raises(CheckpointError):
        trimtab.load(checkpoint)


def test_a_manifest_of_other_tensors_is_refused(
    checkpoint: Path, resign: Callable[..., None]
) -> None:
    shapes = rewrite(checkpoint, lambda tensors: None)
    resign(checkpoint, tensors={**shapes, "head.out.bias": [7]})
    with pytest.raises(CheckpointError, match="tensors of .* are not those that were written"):
        trimtab.load(checkpoint)


@pytest.mark.parametrize("name", ["no-heads", "no-filters", "empty-layer"])
def test_what_fits_gives_the_stored_logits(name: str, odd_checkpoints: dict[str, Path]) -> None:
    assert trimtab.verify(odd_checkpoints[name])["max_logit_difference"] <= 1e-5


def test_signing_anew_changes_nothing_by_itself(
    checkpoint: Path, resign: Callable[..., None]
) -> None:
    resign(checkpoint, tensors=rewrite(checkpoint, lambda tensors: None))
    assert trimtab.verify(checkpoint)["max_logit_difference"] == 0


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"not weights", b"\xff" * 100])
def test_weights_of_another_kind_are_refused(
    content: bytes, checkpoint: Path, resign: Callable[..., None]
) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    resign(checkpoint)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        trimtab.load(checkpoint)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "nonsense"},
        {"head_dim": "sixteen"},
        {"head_dim": 8},
        {"heads_per_layer": [4]},
        {"heads_per_layer": [4, 4, 4], "filters_per_layer": [9, 9, 9]},
        {"filters_per_layer": [1, 1]},
        {"hidden_size": 32},
        {"vocab_size": 10},
        {"id2label": {"0": "a"}},
        {"max_position_embeddings": 8},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(
    changes: dict[str, object], checkpoint: Path, resign: Callable[..., None]
) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    resign(checkpoint)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        trimtab.load(checkpoint)


def test_other_weights_of_the_right_shapes_do_not_verify(
    checkpoint: Path, resign: Callable[..., None]
) -> None:
    shapes = rewrite(checkpoint, lambda tensors: tensors["head.out.weight"].add_(0.01))
    resign(checkpoint, tensors=shapes)
    with pytest.raises(CheckpointError, match="logits must equal the stored ones"):
        trimtab.verify(checkpoint)


def test_weights_that_are_no_numbers_do_not_verify(
    checkpoint: Path, resign: Callable[..., None]
) -> None:
    shapes = rewrite(checkpoint, lambda tensors: tensors["head.out.bias"].fill_(float("nan")))
    resign(checkpoint, tensors=shapes)
    with pytest.raises(CheckpointError, match="logits must equal the stored ones"):
        trimtab.verify(checkpoint)


def test_half_precision_weights_do_not_verify(
    checkpoint: Path, resign: Callable[..., None]
) -> None:
    def halve(tensors: Tensors) -> None:
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})

    resign(checkpoint, tensors=rewrite(checkpoint, halve))
    with pytest.raises(CheckpointError, match="logits must equal the stored ones"):
        trimtab.verify(checkpoint)


def test_a_manifest_of_another_cost_does_not_verify(
    checkpoint: Path, resign: Callable[..., None]
) -> None:
    content = json.loads((checkpoint / "trimtab.json").read_text())
    resign(checkpoint, point={**content["point"], "flops": content["point"]["flops"] / 2})
    with pytest.raises(CheckpointError, match="FLOPs"):
        trimtab.verify(checkpoint)


def test_the_weights_hold_nothing_else(checkpoint: Path) -> None:
    with safe_open(checkpoint / "model.safetensors", framework="pt") as stream:
        assert stream.metadata() == {"format": "pt"}
        assert not any(torch.isnan(stream.get_tensor(name)).any() for name in stream.keys())  # noqa: SIM118
