"""Kept layouts of weights: the same numbers as without, and never those of older weights."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers.activations import ACT2FN

from trimtab_strategies.elastic import linear_trimtab
from trimtab_strategies.elastic.linear_trimtab import (
    ElasticLinear,
    activated,
    added,
    can_keep_layouts,
)

WIDE, NARROW = 160, 96


@pytest.fixture
def linear(seed: int) -> ElasticLinear:
    torch.manual_seed(seed)
    made = ElasticLinear(NARROW, WIDE).eval()
    made.keep_layout()
    return made


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, NARROW)


def plain(linear: ElasticLinear, given: torch.Tensor) -> torch.Tensor:
    return functional.linear(given, linear.weight, linear.bias).detach()


def agrees(linear: ElasticLinear, given: torch.Tensor) -> bool:
    with torch.no_grad():
        return torch.allclose(linear(given), plain(linear, given), rtol=1e-5, atol=1e-5)


def keeps_layout(linear: ElasticLinear) -> bool:
    return bool(linear._layouts) is can_keep_layouts()


@pytest.mark.parametrize("shape", [(1,), (7,), (300,), (2, 5), (3, 1), (0,), (2, 0)])
def test_any_number_of_rows_gives_what_torch_gives(
    linear: ElasticLinear, shape: tuple[int, ...]
) -> None:
    given = rows(*shape)
    with torch.inference_mode():
        got = linear(given)
    assert got.shape == (*shape, WIDE)
    torch.testing.assert_close(got.clone(), plain(linear, given), rtol=1e-5, atol=1e-5)


def test_some_outputs_alone_are_those_of_all(linear: ElasticLinear) -> None:
    given = rows(9).transpose(0, 1).contiguous().transpose(0, 1)  # not contiguous
    with torch.no_grad():
        for start, stop in ((0, 32), (32, WIDE), (0, WIDE)):
            wanted = plain(linear, given)[:, start:stop]
            torch.testing.assert_close(linear.some(given, start, stop), wanted)
            again = linear.some(given, start, stop)  # from what is kept
            torch.testing.assert_close(again, wanted, rtol=1e-5, atol=1e-5)
    assert keeps_layout(linear)


@pytest.mark.parametrize("shape", [(1,), (7,), (300,), (2, 5), (0,)])
@pytest.mark.parametrize("name", ["gelu", "relu", "gelu_new", "tanh"])
def test_what_follows_the_product_gives_the_same_bits_in_one_with_it(
    linear: ElasticLinear, shape: tuple[int, ...], name: str
) -> None:
    given, residual, activation = rows(*shape), torch.randn(*shape, WIDE), ACT2FN[name]
    before = residual.clone()
    with torch.inference_mode():
        mapped = linear(given)
        assert torch.equal(activated(linear, given, activation), activation(mapped))
        assert torch.equal(added(linear, given, residual), residual + mapped)
        assert torch.equal(added(linear, given, residual.mT.contiguous().mT), residual + mapped)
        assert torch.equal(added(linear, given, residual[..., :1]), residual[..., :1] + mapped)
    assert torch.equal(residual, before)


def test_halves_are_rounded_before_what_follows(linear: ElasticLinear) -> None:
    linear.bfloat16()
    given, residual = rows(7).bfloat16(), torch.randn(7, WIDE).bfloat16()
    with torch.inference_mode():
        mapped = linear(given)
        assert torch.equal(activated(linear, given, ACT2FN["gelu"]), functional.gelu(mapped))
        assert torch.equal(added(linear, given, residual), residual + mapped)


def test_one_product_does_what_follows_unless_somebody_watches_or_replaces(
    linear: ElasticLinear, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, residual, gelu, called = rows(7), torch.randn(7, WIDE), ACT2FN["gelu"], []
    layout = linear_trimtab._Layout
    for name in ("map", "map_and_add"):
        plain_one = getattr(layout, name)
        monkeypatch.setattr(
            layout,
            name,
            lambda *own, _name=name, _plain=plain_one: (
                called.append((_name, *(one for one in own[2:] if isinstance(one, str)))),
                _plain(*own),
            )[1],
        )

    def done() -> list[Any]:
        called.clear()
        with torch.inference_mode():
            activated(linear, given, gelu)
            added(linear, given, residual)
        return list(called)

    is_kept = can_keep_layouts()
    fused = [("map", "gelu"), ("map_and_add",)] if is_kept else []
    assert done() == fused
    for watched in (linear.register_forward_hook, linear.register_forward_pre_hook):
        hook = watched(lambda *_: called.append(("hook",)))
        assert done().count(("hook",)) == 2
        hook.remove()
    hook = gelu.register_forward_hook(lambda *_: None)
    assert done() == ([("map",), ("map_and_add",)] if is_kept else [])
    hook.remove()
    assert done() == fused
    wrapped = torch.nn.Sequential(linear)
    with torch.inference_mode():
        called.clear()
        assert torch.equal(added(wrapped, given, residual), residual + linear(given))
        assert torch.equal(activated(wrapped, given, gelu), gelu(linear(given)))
    assert [name for name, *_ in called] == ["map"] * 4 * is_kept


@pytest.mark.parametrize("frozen", ["weight", "bias", "both"])
def test_gradients_pass_through_frozen_weights(linear: ElasticLinear, frozen: str) -> None:
    linear.weight.requires_grad_(frozen == "bias")
    linear.bias.requires_grad_(frozen == "weight")
    given, residual = rows(7).requires_grad_(), torch.randn(7, WIDE, requires_grad=True)
    added(linear, activated(linear, given, ACT2FN["gelu"])[:, :NARROW], residual).sum().backward()
    got = given.grad.clone(), residual.grad.clone()
    given.grad = residual.grad = None
    inner = functional.gelu(functional.linear(given, linear.weight, linear.bias))[:, :NARROW]
    (residual + functional.linear(inner, linear.weight, linear.bias)).sum().backward()
    torch.testing.assert_close(got, (given.grad, residual.grad))


def scaled(linear: ElasticLinear) -> None:
    with torch.no_grad():
        linear.weight.mul_(2)


def bias_moved(linear: ElasticLinear) -> None:
    with torch.no_grad():
        linear.bias += 1


def replaced(linear: ElasticLinear) -> None:
    linear.weight = torch.nn.Parameter(torch.randn(WIDE, NARROW))


def loaded(linear: ElasticLinear) -> None:
    linear.load_state_dict(ElasticLinear(NARROW, WIDE).state_dict())


def assigned(linear: ElasticLinear) -> None:
    linear.to("meta")
    linear.load_state_dict(ElasticLinear(NARROW, WIDE).state_dict(), assign=True)


@pytest.mark.parametrize("change", [scaled, bias_moved, replaced, loaded, assigned])
def test_weights_that_changed_are_laid_out_anew(
    linear: ElasticLinear, change: Callable[[ElasticLinear], None]
) -> None:
    given = rows(11)
    for _ in range(5):  # memory that is free is used again, at the same address
        assert agrees(linear, given) and keeps_layout(linear)
        change(linear)
    assert agrees(linear, given) and keeps_layout(linear)


def stepped(linear: ElasticLinear) -> None:
    _step(linear, torch.optim.AdamW(linear.parameters(), lr=0.1))


def stepped_at_once(linear: ElasticLinear) -> None:
    _step(linear, torch.optim.AdamW(linear.parameters(), lr=0.1, fused=True))


def _step(linear: ElasticLinear, optimizer: torch.optim.Optimizer) -> None:
    linear(rows(4)).square().sum().backward()
    optimizer.step()


def trained_through_data(linear: ElasticLinear) -> None:
    linear.train()
    linear.weight.data.mul_(2)
    linear.eval()


@pytest.mark.parametrize("train", [stepped, stepped_at_once, trained_through_data])
def test_training_ends_it(linear: ElasticLinear, train: Callable[[ElasticLinear], None]) -> None:
    given = rows(11)
    assert agrees(linear, given) and keeps_layout(linear)
    train(linear)
    assert agrees(linear, given) and linear._layouts is None
    linear.keep_layout()
    assert agrees(linear, given) and keeps_layout(linear)


def test_it_is_kept_only_where_asked_for_in_evaluation() -> None:
    linear = ElasticLinear(NARROW, WIDE)
    linear.keep_layout()
    assert linear._layouts is None
    assert agrees(linear.eval(), rows(3)) and linear._layouts is None


def test_copies_and_files_hold_weights_only(linear: ElasticLinear) -> None:
    given = rows(11)
    assert agrees(linear, given)
    file = io.BytesIO()
    torch.save(linear, file)
    file.seek(0)
    copies = [
        copy.deepcopy(linear),
        pickle.loads(pickle.dumps(linear)),
        torch.load(file, weights_only=False),
    ]
    for other in copies:
        assert other._layouts is None
        scaled(other)
        assert agrees(other, given) and agrees(linear, given)
    assert set(linear.state_dict()) == {"weight", "bias"}


def test_gradients_flow_as_ever(linear: ElasticLinear) -> None:
    given = rows(5).requires_grad_()
    assert agrees(linear, given.detach())
    linear(given).sum().backward()
    assert given.grad is not None and linear.weight.grad is not None


def test_bf16_is_laid_out_too(linear: ElasticLinear) -> None:
    linear.to(torch.bfloat16)
    given = rows(11).to(torch.bfloat16)
    with torch.no_grad():
        for _ in range(2):
            got = linear(given)
            assert got.dtype is torch.bfloat16
            torch.testing.assert_close(got, plain(linear, given), rtol=1e-2, atol=1e-2)
    assert bool(linear._layouts) is can_keep_layouts(torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_are_left_to_torch(linear: ElasticLinear, dtype: torch.dtype) -> None:
    given = rows(5)
    assert agrees(linear, given)
    linear.to(dtype)
    with torch.no_grad():
        got = linear(given.to(dtype))
    assert got.dtype is dtype
    assert torch.equal(got, plain(linear, given.to(dtype)))


def test_autocast_still_casts(linear: ElasticLinear) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(rows(5)).dtype is torch.bfloat16
    assert not linear._layouts


def test_flops_are_still_counted(linear: ElasticLinear) -> None:
    given = rows(5)
    assert agrees(linear, given)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        linear(given)
    assert counter.get_total_flops() == 2 * 5 * NARROW * WIDE


def test_the_model_keeps_them_until_it_is_trained(
    model: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_trimtab, "FEWEST_WEIGHTS", 1)
    with torch.inference_mode():
        wanted = model(**batch).logits
        model.keep_layouts()
        for packed in (True, False):
            got = model(**batch, packed=packed).logits
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    maps = [module for module in model.modules() if isinstance(module, ElasticLinear)]
    assert maps and all(keeps_layout(linear) for linear in maps if linear.weight.numel())
    model.train()
    assert all(linear._layouts is None for linear in maps)


def test_rounding_up_costs_at_most_an_eighth_and_leaves_few_numbers() -> None:
    seen = [linear_trimtab.rounded(n) for n in range(1, 4097)]
    assert all(n <= up < n + max(8, n / 8 + 1) for n, up in enumerate(seen, start=1))
    assert [linear_trimtab.rounded(up) for up in seen] == seen
    assert len(set(seen)) == 8 + 8 * 6  # of 8 up to 64; then eight in each of six doublings


def test_weights_made_in_inference_mode_are_left_to_torch() -> None:
    with torch.inference_mode():
        linear = ElasticLinear(NARROW, WIDE).eval()
        linear.keep_layout()
        assert linear(rows(3)).shape == (3, WIDE)
    assert not linear._layouts


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 64), (64, 0), (8, 8)])
def test_empty_and_small_maps_are_left_to_torch(inputs: int, outputs: int) -> None:
    linear, given = ElasticLinear(inputs, outputs).eval(), torch.randn(3, inputs)
    linear.keep_layout()
    with torch.no_grad():
        assert torch.equal(linear(given), plain(linear, given))
        assert linear.some(given, 0, 0).shape == (3, 0)
    assert not linear._layouts


def test_rows_of_another_width_are_refused_as_ever(linear: ElasticLinear) -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.randn(3, NARROW + 1))


def test_a_build_of_torch_without_it_is_as_good(
    linear: ElasticLinear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_trimtab, "can_keep_layouts", lambda dtype: False)
    given = rows(5)
    with torch.no_grad():
        assert torch.equal(linear(given), plain(linear, given))
    assert not linear._layouts


def test_exporting_sees_plain_torch(linear: ElasticLinear) -> None:
    given = rows(5)
    assert agrees(linear, given)
    with torch.no_grad():
        exported = torch.export.export(linear, (given,))
    torch.testing.assert_close(exported.module()(given), plain(linear, given))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
