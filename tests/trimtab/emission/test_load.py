"""Loading with options: the same answers, rounded where that was asked for, or a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trimtab
from trimtab.errors import InputError
from trimtab_workers import precision
from trimtab_workers.errors import WorkerInputError

LENGTHS = (17, 9, 4, 1)
COMPILED = """
import json, sys
import torch

def works():
    try:
        return bool(torch.compile(lambda x: x * 2 + 1)(torch.ones(3)).sum() == 9)
    except Exception:
        return False

import trimtab
answers = {"works": works()}
for folder in sys.argv[1:]:
    try:
        model = trimtab.load(folder, compile=True)
    except trimtab.TrimtabError as error:
        answers[folder] = str(error)
        continue
    plain, worst = trimtab.load(folder), 0.0
    for length in (1, 2, 9, 30):
        ids = torch.randint(5, 60, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.inference_mode():
            worst = max(worst, float((model(ids).logits - plain(ids).logits).abs().max()))
    answers[folder] = worst
print(json.dumps(answers))
"""


@pytest.fixture(params=["no-heads", "no-filters", "empty-layer"])
def odd(request: pytest.FixtureRequest, odd_checkpoints: dict[str, Path]) -> Path:
    return odd_checkpoints[request.param]


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor gives the right numbers; whether it is fast is not asked here."""
    monkeypatch.setattr(precision, "computes_bf16", lambda device: True)


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(5, 60, (len(LENGTHS), 17), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(17) < torch.tensor(LENGTHS)[:, None]).long()
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids * mask, attention_mask=mask).logits
    return found


@pytest.mark.parametrize("dtype", ["bf16", torch.bfloat16])
def test_bf16_gives_the_answers_rounded(odd: Path, dtype: Any, able: None) -> None:
    model = trimtab.load(odd, dtype=dtype)
    assert model.dtype is torch.bfloat16 and not model.training
    got, wanted = logits(model), logits(trimtab.load(odd))
    assert got.dtype is torch.bfloat16 and wanted.dtype is torch.float32
    assert not torch.equal(got.float(), wanted)
    torch.testing.assert_close(got.float(), wanted, rtol=0.05, atol=0.05)


def test_fp32_on_the_cpu_is_what_load_gives(odd: Path) -> None:
    plain = logits(trimtab.load(odd))
    for options in ({"dtype": "fp32"}, {"dtype": torch.float32, "device": "cpu"}):
        model = trimtab.load(odd, **options)
        assert model.device.type == "cpu" and model.dtype is torch.float32
        torch.testing.assert_close(logits(model), plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"dtype": "fp16"}, "dtype must be fp32 or bf16"),
        ({"dtype": "bf16"}, "'cpu' must imitate it"),
        ({"device": "tpu"}, "device must be auto, cpu"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    options: dict[str, Any],
    word: str,
    finished: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: False)
    with pytest.raises(WorkerInputError, match=word) as caught:
        trimtab.load(finished.checkpoint, **options)
    assert "\n" not in str(caught.value)


def test_only_static_points_are_compiled(checkpoint: Path, resign: Callable[..., None]) -> None:
    """Here a setting at which no token would stay but the first, in a folder signed anew."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["token_rule"] = {"kind": "share", "shares": [0.5] * config["num_hidden_layers"]}
    (checkpoint / "config.json").write_text(json.dumps(config))
    resign(checkpoint)
    with pytest.raises(InputError, match="static points only.*it lets tokens go; leave it out"):
        trimtab.load(checkpoint, compile=True)
    assert trimtab.load(checkpoint)._compiled is None


@pytest.mark.slow
def test_compiled_it_says_the_same_or_that_there_is_no_compiler(
    finished: Any, odd_checkpoints: dict[str, Path], python: Callable[..., Any]
) -> None:
    folders = [str(finished.checkpoint), str(odd_checkpoints["empty-layer"])]
    ran = python(COMPILED, *folders)
    assert ran.code == 0, ran.err
    answers = json.loads(ran.out)
    works = answers.pop("works")
    assert list(answers) == folders
    for said in answers.values():
        if works:
            assert said <= 1e-4
        else:
            assert "needs a compiler that torch can use" in said and "\n" not in said


@pytest.mark.slow
def test_without_a_compiler_it_says_so(
    finished: Any, python: Callable[..., Any], tmp_path: Path
) -> None:
    nowhere = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ran = python(COMPILED, finished.checkpoint, **nowhere)
    assert ran.code == 0, ran.err
    answers = json.loads(ran.out)
    assert answers["works"] is False
    said = answers[str(finished.checkpoint)]
    assert "install a C++ compiler such as g++, or leave compile out" in said
    assert "\n" not in said and len(said) < 400
