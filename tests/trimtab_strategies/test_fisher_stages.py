"""Gradients, rearrangement, tuning and the whole pipeline, each against its plain definition."""

import random

import pytest
import torch

from trimtab_strategies import registry
from trimtab_strategies.base import default_choices
from trimtab_strategies.cost import mean_flops
from trimtab_strategies.elastic import Gates
from trimtab_strategies.fisher import _tuning
from trimtab_strategies.fisher._rearrange import lost_together, rearrange
from trimtab_strategies.fisher._statistics import gate_gradients, gram, importance
from trimtab_strategies.fisher._tuning import ScaleSystem, tune_scales
from trimtab_strategies.slicing import ones_like_gates, shape_of, slice_model


def quiet(stage, done, total):
    pass


@pytest.fixture
def seed():
    value = random.randrange(2**32)
    print(f"seed {value}")
    torch.manual_seed(value)
    return value


# --- per-example Fisher information


def test_gradients_equal_one_backward_pass_an_example(model, calibration):
    found = gate_gradients(model, calibration, 10, quiet)
    row = 0
    for batch in calibration.batches(10, 32):
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
                    expected = group[layer].grad
                    assert torch.allclose(found[f"{kind}.{layer}"][row], expected, atol=1e-5)
            row += 1
    assert row == 10


def test_gradients_leave_the_model_as_it_was(model, calibration):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    gate_gradients(model, calibration, 8, quiet)
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_a_layer_with_nothing_left_has_empty_gradients(model, calibration):
    gates = ones_like_gates(model)
    gates.heads[0].zero_()
    gates.filters[1].zero_()
    found = gate_gradients(slice_model(model, gates), calibration, 8, quiet)
    assert found["heads.0"].shape == (8, 0) and found["filters.1"].shape == (8, 0)
    assert found["heads.1"].abs().sum() > 0


def test_importance_is_the_diagonal_of_the_gram_matrix(seed):
    gradients = torch.randn(7, 5)
    assert torch.allclose(importance(gradients), gram(gradients).diagonal())


# --- rearrangement


def test_published_example_of_cancelling_removals():
    g = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.1, 0.0], [5.0, 0.0]], dtype=torch.float64)
    matrix = g @ g.T
    start = torch.tensor([False, False, True, True])
    assert lost_together(matrix, start) == pytest.approx(4.0)
    kept = rearrange(matrix, start)
    assert lost_together(matrix, kept) == pytest.approx(0.01)
    assert kept[3] and int((~kept).sum()) == 2 and not kept[2]


def test_rearranging_never_raises_the_objective_and_keeps_the_count(seed):
    for _ in range(60):
        size = int(torch.randint(2, 14, ()))
        matrix = gram(torch.randn(int(torch.randint(1, 20, ())), size))
        kept = torch.rand(size) < torch.rand(())
        again = rearrange(matrix, kept)
        assert again.sum() == kept.sum()
        assert lost_together(matrix, again) <= lost_together(matrix, kept) + 1e-12


# --- mask tuning


def plain_system(units, goal, weight, width):
    """A and b written out, as the paper has them."""
    n_units = weight.shape[1] // width
    columns = [
        (units[:, i * width : (i + 1) * width] @ weight[:, i * width : (i + 1) * width].T).flatten()
        for i in range(n_units)
    ]
    return torch.stack(columns, dim=1).double(), goal.flatten().double()


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("damping", [0.01, 1.0, 50.0])
def test_streamed_ridge_equals_the_plain_least_squares(seed, width, damping):
    projection = torch.nn.Linear(5 * width, 6)
    units, goal = torch.randn(40, 5 * width), torch.randn(40, 6)
    system = ScaleSystem.of(projection, width)
    system.add(units[:13], goal[:13])
    system.add(units[13:], goal[13:])
    a, b = plain_system(units, goal, projection.weight.detach(), width)
    damped = a.T @ a + damping * torch.eye(5, dtype=torch.float64)
    expected = 1 + torch.linalg.solve(damped, a.T @ (b - a.sum(dim=1)))
    assert torch.allclose(system.solve(damping), expected, atol=1e-5)


def test_tuning_never_raises_its_objective(seed):
    for _ in range(40):
        width, n_units = int(torch.randint(1, 4, ())), int(torch.randint(1, 7, ()))
        damping = float(10 ** (4 * torch.rand(()) - 2))
        projection = torch.nn.Linear(n_units * width, 5)
        units, goal = torch.randn(9, n_units * width), torch.randn(9, 5)
        system = ScaleSystem.of(projection, width)
        system.add(units, goal)
        factors = system.solve(damping)
        assert factors is not None
        a, b = plain_system(units, goal, projection.weight.detach(), width)

        def objective(m, a=a, b=b, damping=damping):
            return float((a @ m - b).square().sum() + damping * (m - 1).square().sum())

        assert objective(factors) <= objective(torch.ones(n_units, dtype=torch.float64)) + 1e-9


def test_factors_out_of_range_are_discarded():
    projection = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(projection.weight)
    system = ScaleSystem.of(projection, 1)
    system.add(torch.ones(4, 1), torch.full((4, 1), 50.0))
    assert system.solve(1e-6) is None
    system.add(torch.full((1, 1), torch.nan), torch.ones(1, 1))
    assert system.solve(1.0) is None


def reconstruction_error(teacher, student, calibration):
    error = 0.0
    with torch.no_grad():
        for batch in calibration.batches(10**6, 32):
            mask = batch["attention_mask"].bool()
            hidden = [m.embeddings(batch["input_ids"], None) for m in (teacher, student)]
            for layers in zip(teacher.layers, student.layers, strict=True):
                hidden = [
                    layer(h, teacher.key_mask(mask))
                    for layer, h in zip(layers, hidden, strict=True)
                ]
            error += float((hidden[0] - hidden[1])[mask].square().sum())
    return error


def test_tuning_an_unpruned_model_changes_nothing(model, calibration):
    same = slice_model(model, ones_like_gates(model))
    tune_scales(model, [same], calibration.batches(48, 32), 1.0, quiet)
    for name, weight in same.state_dict().items():
        assert torch.allclose(weight, model.state_dict()[name], atol=1e-5), name


def test_tuning_brings_a_pruned_model_nearer_to_the_dense_one(model, calibration):
    gates = ones_like_gates(model)
    for gate in [*gates.heads, *gates.filters]:
        gate[::2] = 0
    plain, tuned = slice_model(model, gates), slice_model(model, gates)
    tune_scales(model, [tuned], calibration.batches(48, 32), 0.01, quiet)
    before = reconstruction_error(model, plain, calibration)
    assert reconstruction_error(model, tuned, calibration) < before


def test_students_tuned_together_equal_students_tuned_alone(model, calibration):
    ones = ones_like_gates(model)
    some = Gates([g.clone() for g in ones.heads], [g.clone() for g in ones.filters])
    some.heads[1][0] = 0
    some.filters[0][::3] = 0
    none_left = Gates([g * 0 for g in ones.heads], [g * 0 for g in ones.filters])
    batches = calibration.batches(48, 32)
    together = [slice_model(model, gates) for gates in (some, none_left)]
    tune_scales(model, together, batches, 1.0, quiet)
    alone = slice_model(model, some)
    tune_scales(model, [alone], batches, 1.0, quiet)
    for name, weight in alone.state_dict().items():
        assert torch.equal(weight, together[0].state_dict()[name])


def test_students_are_tuned_alike_when_memory_has_no_room_for_all(model, calibration, monkeypatch):
    gates = ones_like_gates(model)
    gates.filters[0][::3] = 0
    batches = calibration.batches(48, 32)
    together = [slice_model(model, gates) for _ in range(3)]
    tune_scales(model, together, batches, 1.0, quiet)
    assert _tuning.group_size(32, batches) > 3
    monkeypatch.setattr(_tuning, "MEMORY_BYTES", 1)
    assert _tuning.group_size(32, batches) == 1
    apart = [slice_model(model, gates) for _ in range(3)]
    tune_scales(model, apart, batches, 1.0, quiet)
    for first, second in zip(together, apart, strict=True):
        for name, weight in first.state_dict().items():
            assert torch.equal(weight, second.state_dict()[name])


# --- the whole


@pytest.mark.parametrize("tuning", ["none", "scale"])
@pytest.mark.parametrize("rearranged", [False, True])
def test_every_rung_is_within_its_cost_and_says_how_to_make_it_again(
    model, calibration, tuning, rearranged
):
    fisher = registry.get("fisher")
    choices = {**default_choices(fisher), "tuning": tuning, "rearrange": rearranged}
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
