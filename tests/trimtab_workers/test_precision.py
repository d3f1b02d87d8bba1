"""Precisions: what a model computes in, what stays as it is, and what is refused."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
import torch

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_workers import precision
from trimtab_workers.errors import WorkerInputError
from trimtab_workers.precision import computes_bf16, set_precision

RULE = {"kind": "threshold", "normaliser": "fixed", "reference_length": 16}
CPU = torch.device("cpu")


@pytest.fixture
def model() -> TrimtabForSequenceClassification:
    torch.manual_seed(0)
    config = TrimtabConfig(
        vocab_size=50,
        hidden_size=16,
        head_dim=4,
        heads_per_layer=[2, 0],
        filters_per_layer=[7, 9],
        max_position_embeddings=32,
        token_rule=RULE,
        exits={"layers": [0], "kind": "mlp", "read": "both", "width": 4},
        knobs={"tau": 0.5},
    )
    made: TrimtabForSequenceClassification = TrimtabForSequenceClassification(config).eval()
    with torch.no_grad():
        made.token_rule.base.copy_(torch.tensor([0.0123, 0.0456]))
    return made


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor gives the right numbers; whether it is fast is not asked here."""
    monkeypatch.setattr(precision, "computes_bf16", lambda device: True)


@pytest.mark.parametrize("name", ["bf16", torch.bfloat16])
def test_bf16_is_everything_but_thresholds(
    name: Any, model: TrimtabForSequenceClassification, able: None
) -> None:
    thresholds = model.token_rule.thresholds().clone()
    assert set_precision(model, name) is model
    kinds = {weight.dtype for part, weight in model.named_parameters() if "token_rule" not in part}
    assert kinds == {torch.bfloat16} and model.dtype is torch.bfloat16
    assert torch.equal(model.token_rule.thresholds(), thresholds)
    with torch.inference_mode():
        for n_texts in (1, 5):
            logits = model(torch.randint(1, 50, (n_texts, 9))).logits
            assert logits.dtype is torch.bfloat16 and bool(logits.isfinite().all())


@pytest.mark.parametrize("name", ["fp32", torch.float32])
def test_fp32_changes_nothing(
    name: Any, model: TrimtabForSequenceClassification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device: False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for key, tensor in set_precision(model, name).state_dict().items():
        assert tensor.dtype is before[key].dtype and torch.equal(tensor, before[key])


@pytest.mark.parametrize("name", ["fp16", "BF16", "", torch.float16, torch.int8, None, 16])
def test_others_are_refused(name: Any, model: TrimtabForSequenceClassification) -> None:
    with pytest.raises(WorkerInputError, match="dtype must be fp32 or bf16.* but got") as caught:
        set_precision(model, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_processors_say_what_they_can(
    known: dict[str, Any],
    wanted: bool,
    model: TrimtabForSequenceClassification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(known))
    assert computes_bf16(CPU) is wanted
    if not wanted:
        with pytest.raises(WorkerInputError, match="'cpu' must imitate it.*leave the dtype"):
            set_precision(model, "bf16")
        assert model.dtype is torch.float32
