"""Learned token pruning on random models, and on a task in which one token tells the class."""

import functools
import json
import subprocess
import sys

import pytest
import torch

from trimtab_strategies.base import Calibration, active_choices, default_choices
from trimtab_strategies.cost import (
    EncoderShape,
    LengthHistogram,
    encoder_macs_at,
    mean_flops,
    token_counts,
)
from trimtab_strategies.elastic import TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic
from trimtab_strategies.fine_tuning import (
    Group,
    fine_tune,
    inputs_of,
    task_loss,
    tokens_left,
    with_token_rule,
)
from trimtab_strategies.ltp import LtpStrategy
from trimtab_strategies.slicing import ones_like_gates, shape_of, slice_model

CLS, MARKERS, FILLERS = 2, 5, 10
one_family = pytest.mark.parametrize("family", ["bert"])
EAGER = {"lr": 1e-4, "threshold_lr": 1e-3, "soft_epochs": 3}
"""Few rows make few steps: what thousands of rows do at the defaults takes larger ones here."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet(stage, done, total):
    pass


def applied(model, calibration, **changes):
    strategy = LtpStrategy()
    choices = active_choices(strategy, {**default_choices(strategy), **changes})
    (variant,) = strategy.apply(model, calibration, choices, None, (1.0,), quiet)
    return variant


def state_of(model, without=()):
    return {k: v.clone() for k, v in model.state_dict().items() if not k.startswith(without)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def logits_of(model, batch):
    with torch.inference_mode():
        return model(**inputs_of(batch)).logits


# A task in which one marker, anywhere in the text, tells the class; every other token is noise


def marker_rows(n_rows, seed):
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(12, 21, (n_rows,), generator=random).sort().values
    real = torch.arange(int(lengths[-1]))[None, :] < lengths[:, None]
    labels = torch.randint(0, 2, (n_rows,), generator=random)
    place = 1 + (torch.rand(n_rows, generator=random) * (lengths - 1)).long()
    ids = torch.randint(FILLERS, 90, real.shape, generator=random)
    ids[:, 0] = CLS
    ids[torch.arange(n_rows), place] = MARKERS + labels
    rows = {"input_ids": ids * real, "attention_mask": real.long(), "labels": labels}

    def batches(stop, batch_size, start=0):
        ends = range(start, min(stop, n_rows), batch_size)
        return [
            {k: v[i : min(i + batch_size, stop, n_rows)] for k, v in rows.items()} for i in ends
        ]

    return Calibration(n_rows, LengthHistogram.from_lengths(lengths.tolist()), batches)


TRAIN, TEST = marker_rows(320, seed=1), marker_rows(320, seed=2)


def accuracy(model):
    batches = TEST.batches(TEST.n_rows, 64)
    right = sum(int((logits_of(model, b).argmax(dim=1) == b["labels"]).sum()) for b in batches)
    return right / TEST.n_rows


@functools.cache
def trained_model(make_stock):
    model = to_elastic(make_stock("bert", num_labels=2))
    groups = [Group(list(model.parameters()), 2e-3)]
    fine_tune(model, TRAIN.batches(320, 32), lambda b: task_loss(model, b), groups, 10, quiet)
    return model


@functools.cache
def learned(make_stock, weight):
    return applied(trained_model(make_stock), TRAIN, **EAGER, **{"lambda": weight})


@pytest.fixture
def trained(stock_of):
    return trained_model(stock_of)


@pytest.mark.slow
def test_pruned_models_keep_the_accuracy_with_less_than_half_of_the_tokens(trained, stock_of):
    assert accuracy(trained) >= 0.95
    variant = learned(stock_of, 0.1)
    assert accuracy(variant.model) >= 0.9
    left = tokens_left(variant.model, TEST.batches(TEST.n_rows, 64), quiet)
    assert left[0] <= 0.5 and left[1] <= left[0]
    for share, noted in zip(left, variant.notes["tokens_left"]["end"], strict=True):
        assert share == pytest.approx(noted, abs=0.1)


@pytest.mark.slow
def test_a_larger_lambda_leaves_fewer_tokens(stock_of):
    little, much = (learned(stock_of, weight).notes for weight in (1e-3, 0.4))
    assert much["tokens_left"]["soft"][0] < little["tokens_left"]["soft"][0] - 0.03
    assert much["thresholds"][0] > little["thresholds"][0]


@pytest.mark.slow
def test_the_soft_stage_moves_thresholds_and_takes_tokens(stock_of):
    notes = learned(stock_of, 0.1).notes
    assert all(
        found > start + 1e-3
        for found, start in zip(notes["thresholds"], (0.005, 0.01), strict=True)
    )
    assert notes["tokens_left"]["soft"][0] < notes["tokens_left"]["start"][0] - 0.1


@pytest.mark.slow
def test_steps_are_bounded_by_the_rate_of_thresholds(trained):
    found = applied(trained, TRAIN, threshold_lr=1e-4, soft_epochs=1, hard_epochs=0)
    moved = found.model.token_rule.offset.detach().abs()
    assert moved.min() > 0, "Adam takes about a whole step however small the gradient"
    assert moved.max() <= 1e-4 * len(TRAIN.batches(TRAIN.n_rows, 32))


# Stages


def test_manual_thresholds_train_nothing(model, calibration):
    variant = applied(model, calibration, thresholds="manual", last_threshold=0.02)
    assert set(variant.choices) == {"thresholds", "last_threshold", "normaliser"}
    assert same(state_of(variant.model, ("token_rule.",)), state_of(model))
    assert variant.notes["thresholds"] == pytest.approx([0.01, 0.02])
    assert set(variant.notes["tokens_left"]) == {"start", "end"}


def test_the_hard_stage_trains_weights_and_leaves_thresholds_alone(model, calibration):
    variant = applied(model, calibration, thresholds="hard_only", lr=1e-4)
    assert set(variant.choices) >= {"lr", "hard_epochs"} and "lambda" not in variant.choices
    assert variant.notes["thresholds"] == pytest.approx([0.005, 0.01])
    assert not variant.model.token_rule.offset.any()
    before, after = state_of(model), state_of(variant.model, ("token_rule.",))
    assert not same(before, after) and before.keys() == after.keys()
    soft_only = applied(model, calibration, hard_epochs=0)
    both = applied(model, calibration, hard_epochs=2)
    assert both.notes["thresholds"] == soft_only.notes["thresholds"] != variant.notes["thresholds"]
    assert not same(state_of(both.model), state_of(soft_only.model))


@one_family
def test_dropout_and_order_are_the_same_whatever_ran_before(model, calibration):
    torch.manual_seed(1)
    one = applied(model, calibration, threshold_lr=1e-3)
    torch.manual_seed(2)
    drawn = torch.rand(1)
    torch.manual_seed(2)
    other = applied(model, calibration, threshold_lr=1e-3)
    assert torch.equal(torch.rand(1), drawn), "the global random state is put back"
    assert same(state_of(one.model), state_of(other.model)) and one.notes == other.notes
    assert not one.model.training


@one_family
def test_the_parent_stays_as_it_is_and_shares_no_memory(model, calibration):
    before, config = state_of(model), model.config.to_dict()
    variant = applied(model, calibration)
    with torch.no_grad():
        for weight in variant.model.parameters():
            weight.add_(1.0)
    assert same(state_of(model), before) and model.config.to_dict() == config
    assert all(weight.grad is None for weight in model.parameters())
    assert all(weight.grad is None for weight in variant.model.parameters())


@one_family
def test_progress_counts_the_batches_of_both_stages(model, calibration):
    told = []
    choices = default_choices(LtpStrategy())
    progress = lambda *report: told.append(report)  # noqa: E731
    list(LtpStrategy().apply(model, calibration, choices, None, (1.0,), progress))
    n_batches = len(calibration.batches(48, 32))
    steps = [report for report in told if report[0] == "training"]
    assert steps == [("training", done, 3 * n_batches) for done in range(3 * n_batches)]


# What comes out


def test_thresholds_and_logits_survive_a_folder(model, calibration, batch, tmp_path):
    variant = applied(model, calibration, normaliser="live")
    variant.model.save_pretrained(tmp_path)
    back, info = TrimtabForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    assert torch.equal(logits_of(back.eval(), batch), logits_of(variant.model, batch))
    assert back.token_rule.thresholds().tolist() == variant.notes["thresholds"]
    assert back.config.token_rule == {
        "kind": "threshold",
        "normaliser": "live",
        "reference_length": 128,
    }
    assert json.loads(json.dumps(variant.notes)) == variant.notes


def test_thresholds_below_zero_give_the_dense_logits(model, calibration, batch):
    variant = applied(model, calibration, thresholds="manual")
    assert not torch.allclose(logits_of(variant.model, batch), logits_of(model, batch), atol=1e-3)
    variant.model.config.knobs = {"delta_scale": -1.0}
    assert torch.allclose(logits_of(variant.model, batch), logits_of(model, batch), atol=1e-5)


@pytest.mark.slow
def test_a_larger_scale_leaves_no_more_tokens(trained, stock_of):
    model, counted = learned(stock_of, 0.1).model, TEST.batches(TEST.n_rows, 64)
    assert (model.token_rule.thresholds() > 0).all()
    try:
        left = []
        for scale in (-1.0, 0.2, 0.5, 1.0, 1e9):
            model.config.knobs = {"delta_scale": scale}
            left.append(tokens_left(model, counted, quiet)[0])
    finally:
        model.config.knobs = {}
    assert left[0] == 1 and left == sorted(left, reverse=True)
    assert left[-1] == pytest.approx(1 / TEST.histogram.mean), "the first token stays"


@one_family
def test_layers_without_heads_or_filters_are_trained_around(model, calibration, batch):
    gates = ones_like_gates(model)
    gates.heads[0].zero_()
    gates.filters[1].zero_()
    variant = applied(slice_model(model, gates), calibration, last_threshold=0.03)
    assert torch.isfinite(logits_of(variant.model, batch)).all()
    left = variant.notes["tokens_left"]["end"]
    assert left[0] == 1 and left[1] < 1
    assert variant.model.token_rule.offset[0] == 0, "nothing was known of this layer's tokens"


@one_family
def test_exits_come_along_untrained_and_stale_points_do_not(model, calibration):
    config = model.config.to_dict() | {
        "exits": {"layers": [0], "kind": "mlp", "read": "mean", "width": 8},
        "knobs": {"tau": 0.3},
        "operating_points": [{"metric": 0.9, "drop": 0.0, "flops_ratio": 1.0}],
    }
    parent = TrimtabForSequenceClassification(model.config_class.from_dict(config)).eval()
    child = applied(parent, calibration).model
    assert same(state_of(child.exits), state_of(parent.exits))
    assert child.config.exits == parent.config.exits and child.config.knobs == {"tau": 0.3}
    assert child.config.operating_points == []


@one_family
def test_a_second_token_rule_is_refused(model, calibration):
    pruned = with_token_rule(model, {"kind": "share", "shares": [1.0, 0.5]}, {})
    with pytest.raises(ValueError, match="a token rule yet, but it has one of kind 'share'"):
        applied(pruned, calibration)


@one_family
def test_divergence_is_told(model, calibration):
    with torch.no_grad():
        model.head.out.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"diverged at step 1 of \d+ .* lower"):
        applied(model, calibration)


# Gradients


@one_family
def test_each_group_is_clipped_by_itself(model, calibration, monkeypatch):
    """Thresholds have gradients of another size; the weights' must come out as if alone."""
    seen = []
    clip = torch.nn.utils.clip_grad_norm_

    def noted(weights, largest):
        clip(weights, largest)
        norm = torch.stack([w.grad.norm() for w in weights if w.grad is not None]).norm()
        seen.append((len(weights), float(norm)))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noted)
    applied(model, calibration, soft_epochs=1, hard_epochs=0, temperature=1e-2, **{"lambda": 0.4})
    thresholds = [norm for count, norm in seen if count == 1]
    weights = [norm for count, norm in seen if count > 1]
    assert len(thresholds) == len(weights) == len(calibration.batches(48, 32))
    assert max(weights) == pytest.approx(1, abs=1e-3) and max(thresholds) <= 1 + 1e-5


# Before anything is run


def test_the_cheapest_is_the_first_token_alone_after_one_attention():
    shape = EncoderShape(32, 8, (0, 4, 0, 2), (48, 0, 48, 48))
    histogram = LengthHistogram({1: 2, 17: 3})
    found = LtpStrategy().reach(shape, histogram)
    long = encoder_macs_at(shape, [(17, 17, 17), (17, 17, 1), (1, 1, 1), (1, 1, 1)])
    short = encoder_macs_at(shape, [(1, 1, 1)] * 4)
    assert found.low_flops == pytest.approx(2 * (3 * long + 2 * short) / 5)
    assert found.high_flops == mean_flops(shape, histogram)


@one_family
def test_no_setting_costs_less_than_the_cheapest(model, calibration):
    cheapest = applied(model, calibration, thresholds="manual", last_threshold=0.1).model
    cheapest.config.knobs = {"delta_scale": 1e9}
    shape, total = shape_of(model.config), 0
    for batch in calibration.batches(48, 16):
        trace = cheapest.trace(**inputs_of(batch))
        for length, kept in zip(trace.lengths.tolist(), trace.kept.tolist(), strict=True):
            total += encoder_macs_at(shape, token_counts(length, kept, "ltp"))
    low = LtpStrategy().reach(shape, calibration.histogram).low_flops
    assert 2 * total / 48 == pytest.approx(low)


def test_planning_needs_no_torch():
    program = (
        "import sys; from trimtab_strategies.ltp import LtpStrategy as S; "
        "from trimtab_strategies.cost import *; "
        "S().reach(EncoderShape.dense(32, 2, 4, 48), LengthHistogram({8: 1})); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
