"""Exits: where they go, what they are trained on, and what they may not change."""

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from trimtab_strategies.base import Calibration, active_choices
from trimtab_strategies.cost import (
    FLOPS_PER_MAC,
    EncoderShape,
    LengthHistogram,
    encoder_macs,
    exit_macs,
)
from trimtab_strategies.early_exit import EarlyExitStrategy, _states
from trimtab_strategies.early_exit._states import (
    Seen,
    StateRows,
    exit_heads,
    look,
    look_at_all,
    say,
)
from trimtab_strategies.early_exit._strategy import exit_layers
from trimtab_strategies.early_exit._training import (
    OBJECTIVES,
    Best,
    Material,
    agreement,
    joint_loss,
    train_exits,
    with_exits,
)
from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic

N_LAYERS = 4
RULES = {
    "none": None,
    "threshold": {"kind": "threshold", "normaliser": "fixed", "reference_length": 16},
    "share": {"kind": "share", "shares": [0.8] * N_LAYERS},
}
EVERYBODY = 1.1
"""A tau above every uncertainty: all leave at the first exit in use."""


@pytest.fixture(autouse=True)
def one_thread():
    """In models this small, several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet(stage, done, total):
    pass


def under_rule(model, rule, **changes):
    """The same weights under a token rule; thresholds are such that some tokens go."""
    config = {**model.config.to_dict(), "token_rule": RULES[rule], **changes}
    pruned = TrimtabForSequenceClassification(TrimtabConfig.from_dict(config)).eval()
    weights = {k: w for k, w in model.state_dict().items() if not k.startswith("exits.")}
    unset = set(pruned.load_state_dict(weights, strict=False).missing_keys)
    assert all(name.startswith(("token_rule.", "exits.")) for name in unset)
    if rule == "threshold":
        with torch.no_grad():
            pruned.token_rule.base.copy_(torch.linspace(0.03, 0.055, N_LAYERS))
    return pruned


@pytest.fixture
def parent(stock_of, batch_of):
    """A random model of four layers, centred so that it predicts every class."""
    model = to_elastic(stock_of("bert", num_hidden_layers=N_LAYERS))
    with torch.no_grad():
        model.head.out.bias -= logits_of(model, batch_of(0, [12] * 200)).median(dim=0).values
    return model


def batches_of(rows):
    """Makes batches of rows as a calibration does."""

    def batches(stop, size, start=0):
        ends = [*range(start, min(stop, len(rows["labels"])), size), stop]
        return [
            {name: t[a:b] for name, t in rows.items()} for a, b in zip(ends, ends[1:], strict=False)
        ]

    return batches


@pytest.fixture
def rows_of(batch_of):
    """Makes a calibration of random rows, some of them without labels."""

    def make(n_rows, n_unlabeled=0, seed=0):
        def drawn(n, its_seed, labels_mean=True):
            lengths = np.random.default_rng(its_seed).integers(3, 20, n)
            batch = batch_of(0, sorted(map(int, lengths)), its_seed)
            if not labels_mean:
                batch["labels"] = torch.full_like(batch["labels"], -1)
            return batch

        known = batches_of(drawn(n_rows, seed))
        histogram = LengthHistogram({10: n_rows})
        if not n_unlabeled:
            return Calibration(n_rows, histogram, known)
        more = batches_of(drawn(n_unlabeled, seed + 1, labels_mean=False))
        return Calibration(n_rows, histogram, known, n_unlabeled, more)

    return make


def chosen(**choices):
    strategy = EarlyExitStrategy()
    defaults = {choice.name: choice.default for choice in strategy.choices} | {
        "epochs": 5,
        "lr": 2e-3,
    }
    return active_choices(strategy, {**defaults, **choices})


def applied(model, calibration, **choices):
    (variant,) = EarlyExitStrategy().apply(
        model, calibration, chosen(**choices), None, (1.0,), quiet
    )
    return variant


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def without_exits(weights):
    return {name: w for name, w in weights.items() if not name.startswith("exits.")}


def logits_of(model, batch, packed=True, **knobs):
    model.config.knobs.update(knobs)
    with torch.inference_mode():
        return model(batch["input_ids"], batch["attention_mask"], packed=packed).logits


# --- where exits go, and what they can save


@pytest.mark.parametrize(
    ("positions", "n_layers", "expected"),
    [
        ("all", 2, [0]),
        ("all", 6, [0, 1, 2, 3, 4]),
        ("upper", 2, [0]),
        ("upper", 5, [2, 3]),
        ("upper", 12, [5, 6, 7, 8, 9, 10]),
        ("even", 2, [0]),
        ("even", 6, [0, 2, 4]),
        ("even", 7, [0, 2, 4]),
    ],
)
def test_layers_with_exits(positions, n_layers, expected):
    assert exit_layers(positions, n_layers) == expected


def test_there_is_always_an_exit_and_never_after_the_last_layer():
    for n_layers in range(2, 30):
        for positions in ("all", "upper", "even"):
            layers = exit_layers(positions, n_layers)
            assert layers and layers == sorted(set(layers))
            assert layers[0] >= 0 and layers[-1] < n_layers - 1


def test_a_single_layer_has_no_exit(stock_of, rows_of):
    model = to_elastic(stock_of("bert", num_hidden_layers=1))
    with pytest.raises(ValueError, match="at least 2 layers, but got 1"):
        applied(model, rows_of(16))
    shape, histogram = EncoderShape.dense(32, 1, 4, 48), LengthHistogram({8: 1})
    span = EarlyExitStrategy().reach(shape, histogram)
    assert span.low_flops == span.high_flops == FLOPS_PER_MAC * encoder_macs(shape, 8)


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="all, upper, even"):
        exit_layers("lower", 6)


def test_reach_is_from_the_first_exit_to_none():
    shape = EncoderShape.dense(768, 12, 12, 3072)
    span = EarlyExitStrategy().reach(shape, LengthHistogram({10: 1, 30: 1}))
    forms = product(("mlp", "linear", "attention"), ("mean", "first", "both"), (64, 128, 256))
    head = min(exit_macs(kind, read, 768, width, 2, 1) for kind, read, width in forms)
    dense = sum(encoder_macs(shape, n) for n in (10, 30)) / 2
    assert span.low_flops == pytest.approx(FLOPS_PER_MAC * (dense / 12 + head))
    assert span.high_flops == pytest.approx(FLOPS_PER_MAC * dense)


def test_the_strategy_is_known_without_torch():
    code = """
import sys
from trimtab_strategies.cost import EncoderShape, LengthHistogram
from trimtab_strategies.early_exit import EarlyExitStrategy
from trimtab_strategies.early_exit._strategy import exit_layers
EarlyExitStrategy().reach(EncoderShape.dense(32, 2, 4, 48), LengthHistogram({8: 1}))
exit_layers("all", 3)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_choices_that_mean_nothing_are_left_out(parent, rows_of):
    choices = chosen(head="attention", read="both")
    assert "read" not in choices and "width" in choices
    variant = applied(parent, rows_of(16), head="attention", read="both")
    assert variant.model.config.exits["read"] == "first"
    assert "width" not in chosen(head="linear", width=256)


# --- what exits read


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("read", ["mean", "first", "both", "attention"])
def test_cached_states_are_what_exits_read_in_both_forwards(parent, batch_of, rule, read):
    kind = "attention" if read == "attention" else "mlp"
    settings = {"layers": [0, 2], "kind": kind, "read": read, "width": 16}
    if kind == "attention":
        settings["read"] = "first"
    model = with_exits(under_rule(parent, rule), settings)
    batch = batch_of(0, [7, 20, 1, 13, 3, 20])
    if rule != "none":
        kept = model.trace(batch["input_ids"], batch["attention_mask"]).kept
        assert (kept[:, 0] < batch["attention_mask"].sum(dim=1)).any()
    seen = look(model, batch)
    final = logits_of(model, batch)
    assert torch.allclose(seen.logits, final, atol=1e-6)
    assert torch.equal(seen.labels, batch["labels"])
    for place, (head, reading) in enumerate(zip(exit_heads(model), seen.readings, strict=True)):
        with torch.no_grad():
            expected = say(head, reading)
        for packed in (True, False):
            found = logits_of(model, batch, packed, tau=EVERYBODY, exits=[place])
            assert torch.allclose(found, expected, atol=1e-5)
            assert not torch.allclose(found, final, atol=1e-2)


def test_rows_that_start_with_padding_are_read_too(parent, batch_of):
    model = with_exits(parent, {"layers": [1], "kind": "linear", "read": "mean", "width": 8})
    batch = batch_of(0, [9, 9, 9])
    batch["attention_mask"][:, :2] = 0
    (reading,) = look(model, batch).readings
    found = logits_of(model, batch, tau=EVERYBODY)
    with torch.no_grad():
        assert torch.allclose(say(exit_heads(model)[0], reading), found, atol=1e-5)


def test_looking_leaves_no_hook_and_gives_plain_tensors(parent, batch_of):
    model = with_exits(parent, {"layers": [0], "kind": "attention", "read": "first", "width": 8})
    seen = look(model, batch_of(0, [5, 3]))
    assert not exit_heads(model)[0]._forward_pre_hooks
    (reading,) = seen.readings
    assert not any(t.is_inference() for t in (reading.hidden, reading.live, seen.logits))
    say(exit_heads(model)[0], reading).sum().backward()


def test_rows_come_once_each_in_an_order_that_is_drawn(parent, rows_of):
    model = with_exits(parent, {"layers": [0, 1], "kind": "mlp", "read": "both", "width": 8})
    batches = rows_of(150).batches(150, 64)
    rows = StateRows(model, batches, quiet)
    together = [torch.cat([look(model, b).readings[1] for b in batches])]
    plain = torch.cat([seen.readings[1] for seen in rows.batches()])
    drawn = torch.cat([seen.readings[1] for seen in rows.batches(torch.Generator().manual_seed(3))])
    assert torch.equal(plain, together[0]) and not torch.equal(plain, drawn)
    assert torch.equal(plain.sum(dim=1).sort().values, drawn.sum(dim=1).sort().values)
    assert rows.n_batches == len(list(rows.batches())) == 3


# --- what they learn


def seen_of(said_classes=5, n=7):
    return Seen([], torch.randn(n, said_classes), torch.randint(0, said_classes, (n,)))


def test_objectives_are_their_definitions(seed):
    seen, said = seen_of(), torch.randn(7, 5)
    teacher, student = Categorical(logits=seen.logits), Categorical(logits=said)
    expected = {
        "distil": kl_divergence(teacher, student).mean(),
        "distil_reversed": kl_divergence(student, teacher).mean(),
        "labels": -student.log_prob(seen.labels).mean(),
    }
    expected["joint"] = expected["labels"]
    assert expected.keys() == OBJECTIVES.keys()
    for name, objective in OBJECTIVES.items():
        assert torch.allclose(objective(said, seen), expected[name], atol=1e-6)


def test_the_joint_loss_is_weighted_by_layers(parent, rows_of):
    model = with_exits(parent, {"layers": [0, 2], "kind": "mlp", "read": "mean", "width": 8})
    (batch,) = rows_of(9).batches(9, 64)
    trace = model.trace(batch["input_ids"], batch["attention_mask"])
    entropy = torch.nn.functional.cross_entropy
    first, third, last = (
        entropy(logits, batch["labels"])
        for logits in (trace.exit_logits[:, 0], trace.exit_logits[:, 1], trace.logits)
    )
    expected = (1 * first + 3 * third + 4 * last) / 8
    assert torch.allclose(joint_loss(model, batch), expected, atol=1e-5)


def test_the_best_weights_of_each_module_are_kept():
    modules = [torch.nn.Linear(1, 1) for _ in range(2)]
    best = Best(2)
    for value, losses in enumerate([[3.0, float("nan")], [1.0, 5.0], [1.0, 7.0]]):
        for module in modules:
            torch.nn.init.constant_(module.weight, value)
        best.note(modules, losses)
    best.restore(modules)
    assert [module.weight.item() for module in modules] == [1.0, 1.0]
    never = Best(1)
    never.note(modules[:1], [float("nan")])
    with pytest.raises(ValueError, match="lower lr"):
        never.restore(modules[:1])


def test_an_eighth_of_the_rows_is_held_back(rows_of):
    for n_rows, fitted in ((2, 1), (7, 6), (16, 14), (5000, 4096 - 512)):
        material = Material.of(rows_of(n_rows, n_unlabeled=20), chosen())
        assert material.fitted == fitted and material.unlabeled == 20
        sizes = [
            sum(len(b["labels"]) for b in batches)
            for batches in (material.to_fit(64), material.held_back(64))
        ]
        assert sizes == [fitted + 20, min(n_rows, 4096) - fitted]
    with pytest.raises(ValueError, match="at least 2 training rows, but got 1"):
        Material.of(rows_of(1), chosen())


def test_one_class_is_refused(stock_of, rows_of):
    model = to_elastic(stock_of("bert", num_labels=1))
    with pytest.raises(ValueError, match="at least 2 classes, but got 1"):
        applied(model, rows_of(16))


@pytest.mark.parametrize(
    "choices",
    [
        {"read": "mean"},
        {"read": "first"},
        {"read": "both"},
        {"head": "linear"},
        {"head": "attention", "epochs": 10},
        {"objective": "distil_reversed"},
    ],
    ids=str,
)
def test_exits_come_to_agree_with_the_final_classifier(parent, rows_of, choices):
    calibration = rows_of(400)
    variant = applied(parent, calibration, **({"epochs": 20} | choices))
    untrained = with_exits(parent, variant.model.config.exits)
    held_back = calibration.batches(400, 64, 350)
    before = agreement(exit_heads(untrained), look_at_all(untrained, held_back, quiet))
    after = variant.notes["agrees"]
    (batch,) = calibration.batches(350, 350)
    commonest = logits_of(parent, batch).argmax(dim=1).bincount().max() / 350
    assert len(after) == N_LAYERS - 1
    assert max(after) > max(before) + 0.15 and max(after) > commonest + 0.05
    assert variant.notes["rows"] == 350 and variant.notes["held_back"] == 50
    assert json.loads(json.dumps(variant.notes)) == variant.notes


@pytest.mark.parametrize("objective", ["distil", "distil_reversed", "labels"])
@pytest.mark.parametrize("rule", ["none", "threshold"])
def test_only_exits_are_trained_and_the_parent_stays(parent, rows_of, objective, rule):
    model = under_rule(parent, rule, knobs={"delta_scale": 1.25} if rule == "threshold" else {})
    before, config, state = weights_of(model), model.config.to_dict(), torch.get_rng_state()
    made = applied(model, rows_of(40), objective=objective).model
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(weights_of(model), before) and model.config.to_dict() == config
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert same_weights(without_exits(weights_of(made)), before)
    assert made.config.knobs == model.config.knobs and not made.training
    untrained = with_exits(model, made.config.exits)
    assert not any(
        torch.equal(one.out.weight, other.out.weight)
        for one, other in zip(made.exits, untrained.exits, strict=True)
    )
    own = {weight.data_ptr() for weight in made.state_dict().values()}
    assert own.isdisjoint(weight.data_ptr() for weight in model.state_dict().values())


def test_joint_training_changes_all_but_the_thresholds(parent, rows_of):
    model = under_rule(parent, "threshold")
    before = weights_of(model)
    made = applied(model, rows_of(64), objective="joint", joint_lr=1e-4).model
    assert same_weights(weights_of(model), before)
    assert all(p.grad is None for p in model.parameters())
    after = without_exits(weights_of(made))
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name for name in after if "token_rule" in name}.isdisjoint(changed)
    assert {"head.out.weight", "layers.0.qkv.weight", "embeddings.word.weight"} <= changed
    assert not made.training and all(p.grad is None for p in made.parameters())


@pytest.mark.parametrize(
    "choices", [{}, {"head": "attention"}, {"objective": "joint"}, {"objective": "labels"}], ids=str
)
def test_equal_inputs_give_equal_exits(parent, rows_of, choices):
    found = []
    for random_state in (1, 2):
        torch.manual_seed(random_state)
        found.append(weights_of(applied(parent, rows_of(40, 20), **choices).model))
    assert same_weights(*found)


def test_rows_without_labels_teach_where_labels_are_not_asked_for(parent, rows_of):
    for objective, is_used in (("distil", True), ("distil_reversed", True), ("labels", False)):
        for head in ("mlp", "attention"):
            one, other = (
                applied(parent, rows_of(40, n), objective=objective, head=head) for n in (0, 30)
            )
            assert same_weights(weights_of(one.model), weights_of(other.model)) is not is_used
            assert other.notes["unlabeled"] == (30 if is_used else 0)


def test_distilling_looks_at_no_label(parent, rows_of):
    known = rows_of(40)

    def unnamed(stop, size, start=0):
        return [
            {name: t for name, t in batch.items() if name != "labels"}
            for batch in known.batches(stop, size, start)
        ]

    unknown = Calibration(known.n_rows, known.histogram, unnamed)
    one, other = (applied(parent, rows).model for rows in (known, unknown))
    assert same_weights(weights_of(one), weights_of(other))


def test_token_states_that_do_not_fit_are_looked_up_again(parent, rows_of, monkeypatch):
    settings = {"layers": [0, 1], "kind": "attention", "read": "first", "width": 16}
    model = under_rule(parent, "threshold")
    choices = {**chosen(head="attention"), "epochs": 3}
    found = []
    for most in (2**30, 0):
        monkeypatch.setattr(_states, "MOST_KEPT", most)
        child, rows = with_exits(model, settings), rows_of(150)
        train_exits(child, Material.of(rows, choices), choices, quiet)
        found.append(weights_of(child))
    assert same_weights(*found)
    # More epochs are not worth running the backbone for.
    child = with_exits(model, settings)
    train_exits(child, Material.of(rows, choices), {**choices, "epochs": 40}, quiet)
    assert same_weights(weights_of(child), found[0])


# --- the model that comes out


def test_exits_of_the_parent_are_replaced(parent, rows_of):
    rows = rows_of(40)
    once = applied(parent, rows, read="first", width=64, positions="even").model
    once.config.knobs = {"tau": 0.3, "exits": [1]}
    once.config.operating_points = [{"flops_ratio": 0.5, "drop": 0.0, "knobs": {"tau": 0.3}}]
    again = applied(once, rows).model
    assert again.config.knobs == {} and again.config.operating_points == []
    assert same_weights(weights_of(again), weights_of(applied(parent, rows).model))


@pytest.mark.parametrize("rule", RULES)
def test_nobody_leaving_is_the_parent(parent, rows_of, batch_of, rule):
    model = under_rule(parent, rule)
    made, batch = applied(model, rows_of(40)).model, batch_of(0, [20, 4, 9])
    for packed in (True, False):
        expected = logits_of(model, batch, packed)
        assert torch.equal(logits_of(made, batch, packed), expected)
        assert torch.equal(logits_of(made, batch, packed, tau=-1.0), expected)
        made.config.knobs.clear()


def test_exits_survive_a_folder(parent, rows_of, batch_of, tmp_path):
    made, batch = applied(parent, rows_of(40), head="attention").model, batch_of(0, [20, 4, 9])
    made.config.knobs = {"tau": 0.9}
    made.save_pretrained(tmp_path)
    back, info = TrimtabForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    assert torch.equal(logits_of(back.eval(), batch), logits_of(made, batch))


def test_half_precision_stays_half(parent, rows_of):
    model = parent.to(torch.bfloat16)
    made = applied(model, rows_of(40)).model
    assert {weight.dtype for weight in made.state_dict().values()} == {torch.bfloat16}
    assert same_weights(without_exits(weights_of(made)), weights_of(model))


@pytest.mark.parametrize("objective", ["distil", "joint"])
def test_every_family_can_have_exits(model, calibration, objective):
    made = applied(model, calibration, objective=objective).model
    (batch,) = calibration.batches(8, 8)
    assert torch.isfinite(logits_of(made, batch, tau=0.5)).all()


# --- on a task that can be learned


def marked_rows(n_rows, seed):
    """Rows whose class says which of three marks stands somewhere in them."""
    rng = np.random.default_rng(seed)
    lengths = np.sort(rng.integers(4, 13, n_rows))
    ids = rng.integers(10, 90, (n_rows, 12))
    ids[:, 0] = 9
    labels = rng.integers(0, 3, n_rows)
    ids[np.arange(n_rows), rng.integers(1, lengths)] = 5 + labels
    real = np.arange(12) < lengths[:, None]
    return {
        "input_ids": torch.from_numpy(np.where(real, ids, 0)),
        "attention_mask": torch.from_numpy(real.astype(np.int64)),
        "labels": torch.from_numpy(labels),
    }


@pytest.mark.slow
def test_easy_samples_leave_early_and_are_right(stock_of):
    model = to_elastic(stock_of("bert", num_hidden_layers=N_LAYERS)).train()
    rows, new = marked_rows(1500, 0), marked_rows(500, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        for places in torch.randperm(1500, generator=generator).split(32):
            loss = model(**{name: t[places] for name, t in rows.items()}).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    calibration = Calibration(1500, LengthHistogram({8: 1}), batches_of(rows))
    final = logits_of(model, new)
    for choices in ({}, {"head": "attention"}, {"objective": "labels"}):
        early = logits_of(applied(model, calibration, **choices).model, new, tau=0.3)
        assert (early != final).any(dim=1).float().mean() > 0.3
        assert (early.argmax(dim=1) == new["labels"]).float().mean() >= 0.9
