"""ONNX graphs: of any family and width they say what the checkpoint says, or there is none."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import trimtab
from trimtab.errors import InputError, TrimtabError
from trimtab.export import _graph, _onnx, _parity

Make = Callable[..., Any]
SHARES = {"kind": "share", "shares": [0.5, 1.0]}
EXITS = {"layers": [0], "kind": "linear", "read": "first", "width": 8}
PLAIN = ["input_ids", "attention_mask"]
NO_HEADS = {"heads_per_layer": [0, 3]}
NO_FILTERS = {"filters_per_layer": [31, 0]}
EMPTY = {"heads_per_layer": [2, 0, 3], "filters_per_layer": [9, 0, 0]}


def says(file: Path, model: Any, lengths: list[int]) -> float:
    """Gives how far a graph is from a model on texts that were not those of the export."""
    pad, generator = model.config.pad_token_id, torch.Generator().manual_seed(7)
    ids = torch.randint(5, 90, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    given = {"input_ids": torch.where(mask.bool(), ids, pad), "attention_mask": mask}
    if model.config.type_vocab_size > 1:
        given["token_type_ids"] = (ids % 2) * mask
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (got,) = session.run(["logits"], {name: part.numpy() for name, part in given.items()})
    with torch.no_grad():
        return float(np.abs(got - model(**given).logits.numpy()).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "widths", "inputs"),
    [
        ("bert", {}, [*PLAIN, "token_type_ids"]),
        ("bert", NO_HEADS, [*PLAIN, "token_type_ids"]),
        ("bert", NO_FILTERS, [*PLAIN, "token_type_ids"]),
        ("distilbert", NO_HEADS, PLAIN),
        ("distilbert", NO_FILTERS, PLAIN),
        ("roberta", EMPTY, PLAIN),
        ("electra", EMPTY, [*PLAIN, "token_type_ids"]),
    ],
)
def test_a_checkpoint_becomes_a_graph_for_texts_of_any_number_and_length(
    family: str,
    widths: dict[str, Any],
    inputs: list[str],
    random_model: Make,
    checkpoint_of: Make,
    tmp_path: Path,
) -> None:
    folder, file = checkpoint_of(random_model(family, **widths)), tmp_path / "model.onnx"
    done = trimtab.export_onnx(folder, file)
    assert (done.path, list(done.inputs), done.rows) == (file, inputs, 32)
    assert 0 <= done.max_logit_difference <= 1e-5
    model = trimtab.load(folder)
    for lengths in ([1], [33], [2, 2], [20, 13, 7, 3, 1], [5] * 9):
        assert says(file, model, lengths) <= 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "model.onnx"]


@pytest.mark.slow
def test_a_model_is_exported_at_the_setting_that_it_has(random_model: Make, tmp_path: Path) -> None:
    model = random_model(token_rule=SHARES, exits=EXITS, knobs={"alpha_sc": 0.9, "tau": 0.99})
    file = tmp_path / "model.onnx"
    with pytest.raises(InputError, match="samples leave it at early exits at knobs.*alpha_sc"):
        trimtab.export_onnx(model, file)
    model.config.knobs = {"alpha_sc": 0.9}
    with pytest.raises(InputError, match="it lets tokens go"):
        trimtab.export_onnx(model, file)
    assert list(tmp_path.iterdir()) == []
    model.config.knobs = {"alpha_sc": 2.0}
    trimtab.export_onnx(model, file)
    assert says(file, model, [9, 4]) <= 1e-5


def test_a_checkpoint_that_is_no_static_point_is_refused(
    random_model: Make, checkpoint_of: Make, tmp_path: Path
) -> None:
    folder = checkpoint_of(random_model(exits=EXITS, knobs={"tau": 0.5}))
    with pytest.raises(InputError) as caught:
        trimtab.export_onnx(folder, tmp_path / "model.onnx")
    said = str(caught.value)
    assert "\n" not in said and str(folder) in said and "`model.config.knobs = {}`" in said
    assert not list(tmp_path.glob("*.onnx*")) + list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_logits_that_differ_refuse_the_export(
    random_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = random_model(), tmp_path / "model.onnx"

    def write_another(model: Any, file: Path) -> None:
        with torch.no_grad():
            model.head.out.bias += 0.01
            write_graph(model, file)
            model.head.out.bias -= 0.01

    write_graph = _graph.write_graph
    monkeypatch.setattr(_graph, "write_graph", write_another)
    with pytest.raises(TrimtabError, match=r"within 0.001, but differ by 0.01.*is refused"):
        trimtab.export_onnx(model, file)
    file.write_text("what was there before")
    with pytest.raises(TrimtabError, match="is refused"):
        trimtab.export_onnx(model, file, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert file.read_text() == "what was there before"


def test_what_is_no_number_is_no_parity(random_model: Make, tmp_path: Path) -> None:
    model = random_model()
    _graph.write_graph(model, tmp_path / "whole.onnx")
    with torch.no_grad():
        model.head.out.bias[0] = float("nan")
    with pytest.raises(TrimtabError, match="differ by nan"):
        _parity.check_parity(model, tmp_path / "whole.onnx")


def test_a_graph_that_does_not_run_is_said_in_one_line(random_model: Make, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(TrimtabError, match="onnxruntime could not run the graph") as caught:
        _parity.check_parity(random_model(), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_texts_of_all_lengths_are_compared(random_model: Make) -> None:
    for family, longest in (("bert", 40), ("roberta", 38)):
        model = random_model(family)
        batches = list(_parity.random_batches(model.config))
        lengths = [int(n) for batch in batches for n in batch["attention_mask"].sum(dim=1)]
        assert len(lengths) == _parity.ROWS == 32
        assert (min(lengths), max(lengths)) == (1, longest)
        pads = [(batch["input_ids"] == model.config.pad_token_id) for batch in batches]
        masks = [batch["attention_mask"] == 0 for batch in batches]
        assert all(torch.equal(*pair) for pair in zip(pads, masks, strict=True))


@pytest.mark.parametrize("missing", _onnx.PACKAGES)
def test_a_missing_package_is_named_with_its_extra(
    missing: str, random_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=re.escape("pip install 'trimtab[onnx]'")) as caught:
        trimtab.export_onnx(random_model(), tmp_path / "model.onnx")
    assert f"package {missing}," in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_is_there_is_kept_unless_forced(random_model: Make, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_text("mine")
    with pytest.raises(InputError, match="exists already: name another file, or pass --force"):
        trimtab.export_onnx(random_model(), file)
    assert file.read_text() == "mine"
    trimtab.export_onnx(random_model(), file, force=True)
    assert says(file, random_model(), [6]) <= 1e-5


def test_where_nothing_can_be_written_it_says_so(random_model: Make, tmp_path: Path) -> None:
    for place, word in ((tmp_path, "is a folder"), (tmp_path / "none" / "model.onnx", "does not")):
        with pytest.raises(InputError, match=word):
            trimtab.export_onnx(random_model(), place, force=True)


def test_a_checkpoint_stays_as_it_was_written(checkpoint_of: Make, random_model: Make) -> None:
    folder = checkpoint_of(random_model())
    with pytest.raises(InputError, match="must lie outside of .*checkpoint"):
        trimtab.export_onnx(folder, folder / "model.onnx", force=True)
    trimtab.load(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda model: model.to(torch.bfloat16), "fp32 on the CPU, but this model is torch.bf"),
        (lambda model: model.train(), "evaluation mode"),
    ],
)
def test_models_in_another_state_are_refused(
    change: Callable[[Any], Any], word: str, random_model: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=word):
        trimtab.export_onnx(change(random_model()), tmp_path / "model.onnx")


def test_what_is_too_large_for_a_file_is_refused(
    random_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="holds at most .* emit a smaller point"):
        trimtab.export_onnx(random_model(), tmp_path / "model.onnx")


@pytest.mark.slow
def test_the_command_writes_it_too(finished: Any, command: Make, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    ran = command("export", finished.checkpoint, "--onnx", file)
    assert (ran.code, ran.err) == (0, "")
    assert "input_ids, attention_mask, token_type_ids" in ran.out
    assert "logits within" in ran.out and "32 random texts" in ran.out
    assert says(file, trimtab.load(finished.checkpoint), [12, 5]) <= 1e-4
    again = command("export", finished.checkpoint, "--onnx", file)
    assert (again.code, again.out) == (2, "")
    assert again.err.count("\n") == 1 and "--force" in again.err
    said = command("export", finished.checkpoint, "--onnx", file, "--force", "--json")
    told = json.loads(said.out)
    assert list(told) == ["path", "inputs", "rows", "max_logit_difference"]
    assert (told["path"], told["rows"]) == (str(file), 32)


def test_the_command_refuses_what_is_no_checkpoint(command: Make, tmp_path: Path) -> None:
    ran = command("export", tmp_path, "--onnx", tmp_path / "model.onnx")
    assert ran.code == 2 and "must be a checkpoint that trimtab wrote" in ran.err
    assert list(tmp_path.iterdir()) == []
