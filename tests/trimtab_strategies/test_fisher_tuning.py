"""Least squares, the choice of units, and the walk through the layers, against plain forms."""

import pytest
import torch

from trimtab_strategies.elastic import Gates
from trimtab_strategies.fisher import _tuning
from trimtab_strategies.fisher._choice import choose_units
from trimtab_strategies.fisher._least_squares import NormalEquations
from trimtab_strategies.fisher._tuning import Tuning, tune
from trimtab_strategies.slicing import ones_like_gates, slice_model

WAYS = [
    Tuning("scale", 1.0),
    Tuning("projection", 0.01),
    Tuning("projection", 0.01, remeasure=True),
]


def quiet(stage, done, total):
    pass


# --- least squares


def streamed(projection, units, goal):
    """The system of tokens that came in two batches."""
    system = NormalEquations(projection)
    cut = len(units) // 3
    system.add(units[:cut], goal[:cut])
    system.add(units[cut:], goal[cut:])
    return system


def plain_system(units, goal, projection, width):
    """A and b of the scales written out, as the paper has them."""
    weight = projection.weight.detach()
    columns = [
        (units[:, first : first + width] @ weight[:, first : first + width].T).flatten()
        for first in range(0, weight.shape[1], width)
    ]
    return torch.stack(columns, dim=1).double(), (
        goal - projection.bias.detach()
    ).flatten().double()


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("damping", [0.01, 1.0, 50.0])
def test_streamed_scales_equal_the_plain_least_squares(seed, width, damping):
    projection = torch.nn.Linear(5 * width, 6)
    units, goal = torch.randn(40, 5 * width), torch.randn(40, 6)
    a, b = plain_system(units, goal, projection, width)
    damped = a.T @ a + damping * torch.eye(5, dtype=torch.float64)
    expected = 1 + torch.linalg.solve(damped, a.T @ (b - a.sum(dim=1)))
    found = streamed(projection, units, goal).scales(width, damping)
    assert torch.allclose(found, expected, atol=1e-5)


def test_scales_never_raise_their_objective(seed):
    for _ in range(40):
        width, n_units = int(torch.randint(1, 4, ())), int(torch.randint(1, 7, ()))
        damping = float(10 ** (4 * torch.rand(()) - 2))
        projection = torch.nn.Linear(n_units * width, 5)
        units, goal = torch.randn(9, n_units * width), torch.randn(9, 5)
        factors = streamed(projection, units, goal).scales(width, damping)
        assert factors is not None
        a, b = plain_system(units, goal, projection, width)

        def objective(m, a=a, b=b, damping=damping):
            return float((a @ m - b).square().sum() + damping * (m - 1).square().sum())

        assert objective(factors) <= objective(torch.ones(n_units, dtype=torch.float64)) + 1e-9


def test_factors_out_of_range_are_discarded():
    projection = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(projection.weight)
    torch.nn.init.zeros_(projection.bias)
    system = NormalEquations(projection)
    system.add(torch.ones(4, 1), torch.full((4, 1), 50.0))
    assert system.scales(1, 1e-6) is None
    assert system.projection(1e-6) is not None, "a projection is not a factor"
    system.add(torch.full((1, 1), torch.nan), torch.ones(1, 1))
    assert system.scales(1, 1.0) is None and system.projection(1.0) is None


def test_streamed_projection_equals_the_plain_least_squares(seed):
    projection = torch.nn.Linear(8, 6)
    units, goal = torch.randn(40, 8), torch.randn(40, 6)
    ridge = 0.1
    damping = ridge * float((units.T @ units).diagonal().mean())
    # Ridge as plain least squares: the old weight is asked for by rows of its own.
    rows = torch.cat([units, damping**0.5 * torch.eye(8)])
    wanted = torch.cat([goal - projection.bias, damping**0.5 * projection.weight.T]).detach()
    expected = torch.linalg.lstsq(rows, wanted).solution.T.double()
    found = streamed(projection, units, goal).projection(ridge)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_strong_ridge_keeps_the_old_projection(seed):
    projection = torch.nn.Linear(8, 6)
    system = streamed(projection, torch.randn(40, 8), torch.randn(40, 6))
    assert torch.allclose(system.projection(1e9), projection.weight.double(), atol=1e-6)


def test_inputs_that_are_never_on_do_no_harm():
    projection = torch.nn.Linear(4, 3)
    system = NormalEquations(projection)
    system.add(torch.zeros(5, 4), torch.ones(5, 3))
    assert torch.allclose(system.projection(0.01), projection.weight.double())


# --- the choice of units


def refitted_error(units, goal, kept, ridge_rows, width):
    columns = torch.nonzero(kept.repeat_interleave(width)).flatten()
    rows = torch.cat([units[:, columns], ridge_rows[:, columns]])
    wanted = torch.cat([goal, torch.zeros(len(ridge_rows), goal.shape[1])])
    best = torch.linalg.lstsq(rows, wanted).solution
    return float((rows @ best - wanted).square().sum())


@pytest.mark.parametrize("width", [1, 3])
def test_the_first_unit_to_go_is_the_one_least_missed_after_refitting(seed, width):
    projection = torch.nn.Linear(6 * width, 4)
    torch.nn.init.zeros_(projection.weight)  # so that the ridge pulls to 0 and errors are plain
    torch.nn.init.zeros_(projection.bias)
    units, goal = torch.randn(60, 6 * width), torch.randn(60, 4)
    system = streamed(projection, units, goal)
    kept = choose_units(system, width, 5, ridge=1e-4)
    pull = (system.damping(1e-4) ** 0.5) * torch.eye(6 * width)
    errors = []
    for out in range(6):
        others = torch.ones(6, dtype=torch.bool)
        others[out] = False
        errors.append(refitted_error(units, goal, others, pull, width))
    assert int((~kept).sum()) == 1
    assert errors[int((~kept).nonzero())] == pytest.approx(min(errors), rel=1e-4)


@pytest.mark.parametrize("width", [1, 4])
def test_units_that_others_can_stand_in_for_go_first(seed, width):
    projection = torch.nn.Linear(40 * width, 5)
    base = torch.randn(200, 20 * width)
    units = torch.cat([base, base + 1e-3 * torch.randn(base.shape)], dim=1)
    goal = units @ projection.weight.T.detach() + projection.bias.detach()
    system = streamed(projection, units, goal)
    before = system.units.clone()
    kept = choose_units(system, width, 20, ridge=1e-6)
    assert int(kept.sum()) == 20
    assert bool((kept[:20] ^ kept[20:]).all()), "one of each pair must stay"
    assert torch.equal(before, system.units)


def test_equations_that_are_not_finite_choose_nothing():
    system = NormalEquations(torch.nn.Linear(20, 3))
    system.add(torch.full((4, 20), torch.nan), torch.ones(4, 3))
    assert choose_units(system, 1, 5, 0.01) is None


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_number_of_units_can_be_kept(seed, count):
    system = streamed(torch.nn.Linear(7, 3), torch.randn(20, 7), torch.randn(20, 3))
    assert int(choose_units(system, 1, count, 0.01).sum()) == count


# --- the walk


def some_gates(model, step):
    gates = ones_like_gates(model)
    for gate in [*gates.heads, *gates.filters]:
        gate[::step] = 0
    return gates


def distance(teacher, student, calibration):
    """How far the first token is from the dense one after the last layer."""
    total = 0.0
    with torch.no_grad():
        for batch in calibration.batches(10**6, 32):
            outputs = []
            for model in (teacher, student):
                hidden = model.embeddings(batch["input_ids"], None)
                for layer in model.layers:
                    hidden = layer(hidden, model.key_mask(batch["attention_mask"]))
                outputs.append(hidden[:, 0])
            total += float((outputs[0] - outputs[1]).square().sum())
    return total


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_tuning_an_unpruned_model_changes_nothing(model, calibration, way):
    (same,) = tune(model, [ones_like_gates(model)], calibration.batches(48, 32), way, quiet)
    for name, weight in same.state_dict().items():
        assert torch.allclose(weight, model.state_dict()[name], atol=1e-4), name


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_tuning_brings_a_pruned_model_nearer_to_the_dense_one(model, calibration, way):
    gates = some_gates(model, 2)
    plain = slice_model(model, gates)
    (tuned,) = tune(model, [gates], calibration.batches(48, 16), way, quiet)
    assert tuned.config.heads_per_layer == plain.config.heads_per_layer
    assert tuned.config.filters_per_layer == plain.config.filters_per_layer
    assert distance(model, tuned, calibration) < distance(model, plain, calibration)


def test_projections_come_nearer_than_scales(model, calibration):
    gates, batches = some_gates(model, 2), calibration.batches(48, 16)
    scaled, projected, chosen = (tune(model, [gates], batches, way, quiet)[0] for way in WAYS)
    assert distance(model, projected, calibration) < distance(model, scaled, calibration)
    assert distance(model, chosen, calibration) < distance(model, scaled, calibration)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_students_tuned_together_equal_students_tuned_alone(model, calibration, way):
    none_left = Gates([g * 0 for g in ones_like_gates(model).heads], some_gates(model, 3).filters)
    masks, batches = [some_gates(model, 3), none_left], calibration.batches(48, 32)
    together = tune(model, masks, batches, way, quiet)
    for gates, beside in zip(masks, together, strict=True):
        (alone,) = tune(model, [gates], batches, way, quiet)
        assert same_weights(alone, beside)


def test_students_are_tuned_alike_when_memory_has_no_room_for_all(model, calibration, monkeypatch):
    masks, batches = [some_gates(model, 3)] * 3, calibration.batches(48, 32)
    together = tune(model, masks, batches, WAYS[1], quiet)
    assert _tuning.group_size(model, batches) > 3
    monkeypatch.setattr(_tuning, "MEMORY_BYTES", 1)
    assert _tuning.group_size(model, batches) == 1
    apart = tune(model, masks, batches, WAYS[1], quiet)
    assert all(same_weights(one, other) for one, other in zip(together, apart, strict=True))


def test_how_rows_are_batched_does_not_matter(model, calibration):
    gates = some_gates(model, 2)
    one, other = (
        tune(model, [gates], calibration.batches(48, size), WAYS[1], quiet)[0] for size in (48, 5)
    )
    for name, weight in one.state_dict().items():
        assert torch.allclose(weight, other.state_dict()[name], atol=1e-3), name


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_dense_model_is_left_alone(model, calibration, way):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tune(model, [some_gates(model, 2)], calibration.batches(48, 32), way, quiet)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_each_layer_runs_once(model, calibration, monkeypatch):
    runs = []
    plain = type(model.layers[0]).context

    def counted(self, hidden, *rest):
        runs.append(self)
        return plain(self, hidden, *rest)

    monkeypatch.setattr(type(model.layers[0]), "context", counted)
    batches = calibration.batches(48, 16)
    tune(model, [some_gates(model, 2)], batches, WAYS[1], quiet)
    for layer in model.layers:
        assert sum(ran is layer for ran in runs) == len(batches)
    assert len(runs) == 2 * len(batches) * len(model.layers), "and each layer of the student"


def same_weights(one, other):
    return all(torch.equal(w, other.state_dict()[name]) for name, w in one.state_dict().items())
