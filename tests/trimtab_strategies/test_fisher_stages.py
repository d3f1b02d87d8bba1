"""Gradients, rearrangement, the guard and the whole pipeline, against their plain definitions."""

import gc
import itertools

import numpy as np
import pytest
import torch

from trimtab_strategies import registry
from trimtab_strategies.base import PRICES, active_choices, default_choices
from trimtab_strategies.cost import LengthHistogram, mean_flops
from trimtab_strategies.fisher._guard import Guard, by_loss, fitted_rows, rows_at_once
from trimtab_strategies.fisher._priced_search import PricedSearch
from trimtab_strategies.fisher._rearrange import lost_together, rearrange, shrunk
from trimtab_strategies.fisher._statistics import (
    _Moment,
    block_of,
    gate_gradients,
    importance_of,
)
from trimtab_strategies.slicing import ones_like_gates, shape_of, slice_model


def gram(rows):
    return (rows.T @ rows).double() / len(rows)


def quiet(stage, done, total):
    pass


# --- per-example Fisher information


def test_gradients_equal_one_backward_pass_an_example(model, calibration):
    found = gate_gradients(model, calibration.batches(4, 32), "labels", quiet)
    expected = {}
    for batch in calibration.batches(4, 32):
        for i in range(len(batch["labels"])):
            gates = ones_like_gates(model)
            for gate in [*gates.heads, *gates.filters]:
                gate.requires_grad_()
            length = int(batch["attention_mask"][i].sum())
            one = {name: tensor[i : i + 1] for name, tensor in batch.items()}
            one = {name: t if name == "labels" else t[:, :length] for name, t in one.items()}
            model(**one, gates=gates).loss.backward()
            for layer in range(2):
                for kind, group in (("heads", gates.heads), ("filters", gates.filters)):
                    expected.setdefault((kind, layer), []).append(group[layer].grad)
    for (kind, layer), gradients in expected.items():
        assert len(gradients) == 4
        block = gram(torch.stack(gradients))
        assert torch.allclose(block_of(found, kind, layer, len(block)), block, atol=1e-5)


def test_gradients_by_predictions_give_the_curvature_of_their_distance(model, calibration):
    """The mean over many random vectors is Jᵀ(diag(p) − ppᵀ)J, the second derivative of the KL."""
    (batch,) = calibration.batches(1, 1)
    many = {name: tensor.expand(4000, *tensor.shape[1:]) for name, tensor in batch.items()}
    estimate = block_of(gate_gradients(model, [many], "predictions", quiet), "heads", 1, 4)
    inputs = (batch["input_ids"], batch["attention_mask"])

    def distance(gate):
        gates = ones_like_gates(model)
        gates.heads[1] = gate
        logp = torch.log_softmax(model(*inputs).logits, dim=1).detach()
        return (
            logp.exp() * (logp - torch.log_softmax(model(*inputs, gates=gates).logits, 1))
        ).sum()

    curvature = torch.autograd.functional.hessian(distance, torch.ones(4)).double()
    assert torch.allclose(estimate, curvature, atol=0.12 * float(curvature.diagonal().max()))


def test_gradients_by_predictions_need_no_labels(model, calibration):
    batches = [
        {name: tensor for name, tensor in batch.items() if name != "labels"}
        for batch in calibration.batches(8, 32)
    ]
    once = gate_gradients(model, batches, "predictions", quiet)
    again = gate_gradients(model, batches, "predictions", quiet)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert block_of(once, "heads", 0, 4).diagonal().min() > 0


def test_gradients_leave_the_model_as_it_was(model, calibration):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    gate_gradients(model, calibration.batches(8, 32), "predictions", quiet)
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_a_layer_with_nothing_left_has_empty_gradients(model, calibration):
    gates = ones_like_gates(model)
    gates.heads[0].zero_()
    gates.filters[1].zero_()
    batches = calibration.batches(8, 32)
    found = gate_gradients(slice_model(model, gates), batches, "labels", quiet)
    assert block_of(found, "heads", 0, 0).shape == (0, 0)
    assert importance_of(found, "filters", 1, 0).shape == (0,)
    assert importance_of(found, "heads", 1, 4).min() > 0


@pytest.mark.parametrize("n_rows", [1, 100, 1000])
@pytest.mark.parametrize("n_gates", [1, 5, 256, 300, 600])
def test_moments_are_the_gram_matrix_of_all_rows(n_rows, n_gates, seed):
    rows = torch.randn(n_rows, n_gates)
    moment = _Moment(n_gates)
    for part in rows.split(7):
        moment.add(part)
    kept = {"heads.3": moment.result()}
    block = block_of(kept, "heads", 3, n_gates)
    assert torch.allclose(block, gram(rows), atol=1e-4)
    assert torch.equal(importance_of(kept, "heads", 3, n_gates), block.diagonal())


# --- rearrangement


def test_published_example_of_cancelling_removals():
    g = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.1, 0.0], [5.0, 0.0]], dtype=torch.float64)
    matrix = g @ g.T
    start = torch.tensor([False, False, True, True])
    assert lost_together(matrix, start) == pytest.approx(4.0)
    kept = rearrange(matrix, start)
    assert lost_together(matrix, kept) == pytest.approx(0.01)
    assert kept[3] and int((~kept).sum()) == 2 and not kept[2]


def test_shrinking_keeps_the_diagonal_and_halves_the_rest(seed):
    matrix = gram(torch.randn(7, 5))
    less = shrunk(matrix)
    assert torch.allclose(less.diagonal(), matrix.diagonal())
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.allclose(less[off], 0.5 * matrix[off])


def test_rearranging_never_raises_the_objective_and_keeps_the_count(seed):
    for _ in range(60):
        size = int(torch.randint(2, 14, ()))
        matrix = gram(torch.randn(int(torch.randint(1, 20, ())), size))
        kept = torch.rand(size) < torch.rand(())
        again = rearrange(matrix, kept)
        assert again.sum() == kept.sum()
        assert lost_together(matrix, again) <= lost_together(matrix, kept) + 1e-12


# --- the guard


def test_an_eighth_of_the_rows_is_held_back_and_never_more_than_256():
    assert [fitted_rows(n) for n in (1, 7, 8, 256, 2048, 10_000)] == [1, 7, 7, 224, 1792, 9744]


def test_long_texts_are_run_a_few_at_a_time():
    sizes = [rows_at_once(LengthHistogram({5: 9, n: 1}), 4096) for n in (5, 128, 512, 9000)]
    assert sizes == [819, 32, 8, 1]


def test_the_guard_sees_only_rows_that_nothing_is_fitted_on(model, calibration):
    guard = Guard(model, calibration, 48)
    rows = sum(len(batch["labels"]) for batch in guard._batches)
    assert rows == 48 - fitted_rows(48)
    (expected,) = calibration.batches(48, 64, fitted_rows(48))
    assert torch.equal(guard._batches[0]["input_ids"], expected["input_ids"])
    assert guard.loss(model) == pytest.approx(0, abs=1e-6)


def test_the_guard_takes_the_least_loss_and_never_nan(model, calibration):
    guard = Guard(model, calibration, 48)
    half = ones_like_gates(model)
    for gate in half.filters:
        gate[::2] = 0
    worse, broken = slice_model(model, half), slice_model(model, half)
    broken.head.out.weight.data.fill_(float("nan"))
    assert guard.loss(worse) > 1e-4

    def best_of(*models):
        return min(models, key=lambda one: by_loss(guard.loss(one)))

    assert best_of(broken, worse, model) is model
    assert best_of(broken, worse) is best_of(worse, broken) is worse


# --- the whole


@pytest.mark.parametrize("tuning", ["none", "scale", "projection", "remeasured"])
@pytest.mark.parametrize("rearranged", [False, True])
def test_every_rung_is_within_its_cost_and_says_how_to_make_it_again(
    model, calibration, tuning, rearranged
):
    fisher = registry.get("fisher")
    everything = {choice.name: choice.default for choice in fisher.choices}
    wanted = {"tuning": tuning, "rearrange": rearranged}
    if tuning == "remeasured":
        wanted |= {"tuning": "projection", "remeasure": True}
    choices = active_choices(fisher, {**everything, **wanted})
    ladder = [1.0, 0.8, 0.5, 0.2, 0.0]
    dense = mean_flops(shape_of(model.config), calibration.histogram)
    variants = list(fisher.apply(model, calibration, choices, None, ladder, quiet))
    assert [variant.choices["constraint"] for variant in variants] == ladder
    for rung, variant in zip(ladder, variants, strict=True):
        flops = mean_flops(shape_of(variant.model.config), calibration.histogram)
        assert flops <= rung * dense
        # A budget is also used: what is left of it would not buy another filter.
        assert flops > rung * dense - 0.05 * dense or rung == 0
    full = variants[0].model
    assert full.num_parameters() == model.num_parameters()


@pytest.mark.parametrize("importance", ["labels", "predictions"])
def test_no_stage_raises_the_held_back_loss(model, calibration, importance):
    fisher = registry.get("fisher")
    guard = Guard(model, calibration, 2048)
    everything = {choice.name: choice.default for choice in fisher.choices}
    losses = []
    for rearranged, tuning in ((False, "none"), (True, "none"), (True, "projection")):
        wanted = {"importance": importance, "rearrange": rearranged, "tuning": tuning}
        choices = active_choices(fisher, {**everything, **wanted})
        variants = fisher.apply(model, calibration, choices, None, [0.6, 0.3], quiet)
        losses.append([guard.loss(variant.model) for variant in variants])
    for before, after in itertools.pairwise(losses):
        assert all(b <= a + 1e-6 for a, b in zip(before, after, strict=True))


def test_of_several_masks_the_one_is_taken_that_is_best_once_tuned(model, calibration, monkeypatch):
    fisher, guard = registry.get("fisher"), Guard(model, calibration, 48)
    choices = {**default_choices(fisher), "calibration": 48, "rearrange": False}
    timed = {**choices, "cost": "latency", PRICES: "0.1/0.1/1 0.1/0.01/1 0.1/0.1/1 0.1/0.01/1 16"}
    statistics = fisher.prepare(model, calibration, choices, quiet)

    def made(masks, **changed):
        monkeypatch.setattr(PricedSearch, "candidates", lambda *_: masks)
        every = fisher.apply(model, calibration, {**timed, **changed}, statistics, [0.5], quiet)
        return guard.loss(next(iter(every)).model)

    shape, chance = shape_of(model.config), np.random.default_rng(0)
    found = 0
    for _ in range(60):
        pair = [
            tuple([chance.random(n) < 0.5 for n in kind] for kind in (shape.heads, shape.filters))
            for _ in range(2)
        ]
        before = [made([masks], tuning="none") for masks in pair]
        after = [made([masks]) for masks in pair]
        if np.argmin(before) != np.argmin(after):
            found += 1
            assert made(pair) == made(pair[::-1]) == min(after)
        if found == 2:
            return
    raise AssertionError("tuning never changed which of two masks is better")


def test_of_all_masks_only_the_best_model_of_each_rung_stays_in_memory(
    model, calibration, monkeypatch
):
    fisher, ladder = registry.get("fisher"), [0.7, 0.5, 0.3]
    choices = {**default_choices(fisher), "calibration": 48, "rearrange": False}
    timed = {**choices, "cost": "latency", PRICES: "0.1/0.1/1 0.1/0.01/1 0.1/0.1/1 0.1/0.01/1 16"}
    shape, chance = shape_of(model.config), np.random.default_rng(0)
    masks = [
        tuple([chance.random(n) < 0.5 for n in kind] for kind in (shape.heads, shape.filters))
        for _ in range(3)
    ]
    monkeypatch.setattr(PricedSearch, "candidates", lambda *_: masks)
    statistics = fisher.prepare(model, calibration, choices, quiet)

    def n_alive():
        gc.collect()
        return sum(type(one) is type(model) for one in gc.get_objects())

    before = n_alive()  # with those that other tests keep
    variants = fisher.apply(model, calibration, timed, statistics, ladder, quiet)
    assert [n_alive() - before for _ in variants] == [3, 2, 1]


def test_shared_statistics_give_the_same_models_as_fresh_ones(model, calibration):
    fisher = registry.get("fisher")
    choices = {**default_choices(fisher), "calibration": 256}
    statistics = fisher.prepare(model, calibration, choices, quiet)
    with_shared = list(fisher.apply(model, calibration, choices, statistics, [0.5], quiet))
    fresh = list(fisher.apply(model, calibration, choices, None, [0.5], quiet))
    for name, weight in fresh[0].model.state_dict().items():
        assert torch.equal(weight, with_shared[0].model.state_dict()[name])


def test_fisher_beats_random_removal_at_the_same_cost(model, calibration):
    """Not a benchmark: an importance with a wrong sign or axis would fail this."""
    fisher = registry.get("fisher")
    choices = {**default_choices(fisher), "tuning": "none", "rearrange": False}

    def loss_of(small):
        with torch.no_grad():
            batches = calibration.batches(10**6, 64)
            return sum(float(small(**b).loss) * len(b["labels"]) for b in batches)

    (variant,) = fisher.apply(model, calibration, choices, None, [0.7], quiet)
    heads, filters = variant.model.config.heads_per_layer, variant.model.config.filters_per_layer
    losses = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        gates = ones_like_gates(model)
        for gate, kept in zip([*gates.heads, *gates.filters], [*heads, *filters], strict=True):
            gate[torch.randperm(len(gate), generator=generator)[kept:]] = 0
        losses.append(loss_of(slice_model(model, gates)))
    assert loss_of(variant.model) < sorted(losses)[len(losses) // 2]
