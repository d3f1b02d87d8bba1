"""Attention context contribution on random models, and on a small task."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from trimtab_strategies.acc import AccStrategy
from trimtab_strategies.acc._profile import keep_shares, kept_counts
from trimtab_strategies.acc._training import measure, received_by_layer, shares_of
from trimtab_strategies.acc.published import speedup
from trimtab_strategies.base import Calibration, default_choices
from trimtab_strategies.cost import EncoderShape, LengthHistogram, encoder_macs_at, mean_flops
from trimtab_strategies.elastic import TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic
from trimtab_strategies.fine_tuning import Group, fine_tune, inputs_of, task_loss, tokens_left
from trimtab_strategies.slicing import ones_like_gates, slice_model

FALLING = {"medians": torch.tensor([0.8, 0.4], dtype=torch.float64)}
"""With these, two layers keep two thirds and then a half of their tokens."""
one_family = pytest.mark.parametrize("family", ["bert"])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quiet(stage, done, total):
    pass


def applied(model, calibration, statistics=None, **changes):
    strategy = AccStrategy()
    choices = {**default_choices(strategy), **changes}
    (variant,) = strategy.apply(model, calibration, choices, statistics, (1.0,), quiet)
    return variant


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def logits_of(model, batch):
    with torch.inference_mode():
        return model(**inputs_of(batch)).logits


# What is measured


def test_what_is_received_adds_up_to_the_tokens_of_each_sample(model, batch):
    lengths = batch["attention_mask"].sum(dim=1)
    found = list(received_by_layer(model, batch))
    assert [layer for layer, _ in found] == [0, 1]
    for _, received in found:
        assert torch.allclose(received.sum(dim=1), lengths.float(), atol=1e-4)
        assert not received[batch["attention_mask"] == 0].any()


@one_family
def test_medians_are_those_of_the_stock_model_one_sample_at_a_time(stock, model, calibration):
    stock.set_attn_implementation("eager")
    expected = np.zeros(2)
    for row in calibration.batches(48, 1):
        with torch.no_grad():
            attentions = stock(**inputs_of(row), output_attentions=True).attentions
        n = int(row["attention_mask"].sum())
        for layer, attention in enumerate(attentions):
            received = attention[0, :, :n, :n].mean(dim=0).sum(dim=0)
            expected[layer] += float(received.median()) / 48  # torch's is the lower of two
    found = measure(model, calibration, {"calibration": 1024}, quiet)["medians"]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@one_family
def test_only_the_rows_asked_for_are_measured_and_the_mode_comes_back(model, calibration):
    stops = []

    def batches(stop, batch_size, start=0):
        stops.append(stop)
        return calibration.batches(stop, batch_size, start)

    many = Calibration(300, calibration.histogram, batches)
    model.train()
    measure(model, many, {"calibration": 256}, quiet)
    measure(model, many, {"calibration": 512}, quiet)
    assert stops == [256, 300] and model.training


def test_a_layer_without_heads_keeps_its_tokens_and_is_not_fitted():
    assert shares_of([0.8, 0.0, 0.4], [4, 0, 2]) == pytest.approx([2 / 3, 1.0, 0.5])
    assert shares_of([0.0, 0.0], [0, 0]) == [1.0, 1.0]


@one_family
def test_a_model_with_a_layer_without_heads_is_pruned_in_the_others(model, calibration, batch):
    gates = ones_like_gates(model)
    gates.heads[0].zero_()
    gates.filters[1].zero_()
    variant = applied(slice_model(model, gates), calibration)
    assert variant.notes["medians"][0] == 0 and variant.notes["medians"][1] > 0
    assert variant.notes["shares"] == [1.0, 1.0], "one layer says nothing of how medians change"
    assert torch.isfinite(logits_of(variant.model, batch)).all()


# What is made


def test_shares_follow_from_the_medians(model, calibration):
    variant = applied(model, calibration)
    notes = variant.notes
    expected = measure(model, calibration, {"calibration": 1024}, quiet)["medians"].tolist()
    assert notes["medians"] == expected
    assert notes["shares"] == keep_shares(expected) == variant.model.token_rule.shares
    assert notes["speedup"] == speedup(notes["shares"])
    assert json.loads(json.dumps(notes)) == notes


def test_samples_keep_as_many_tokens_as_the_profile_says(model, calibration):
    variant = applied(model, calibration, FALLING, epochs=0)
    assert variant.notes["shares"] == pytest.approx([2 / 3, 1 / 2])
    total = np.zeros(2)
    for batch in calibration.batches(48, 16):
        trace = variant.model.trace(**inputs_of(batch))
        for length, kept in zip(trace.lengths.tolist(), trace.kept.tolist(), strict=True):
            assert kept == kept_counts(variant.notes["shares"], length)
            total += kept
    tokens = calibration.histogram.mean * calibration.histogram.n
    assert variant.notes["tokens_left"]["end"] == pytest.approx(total / tokens)


def test_without_epochs_no_weight_changes(model, calibration):
    variant = applied(model, calibration, FALLING, epochs=0)
    assert same(state_of(variant.model), state_of(model)), "shares are settings, not weights"
    assert variant.notes["tokens_left"]["start"] == variant.notes["tokens_left"]["end"]


@one_family
def test_the_parent_stays_as_it_is_and_shares_no_memory(model, calibration):
    before, config = state_of(model), model.config.to_dict()
    variant = applied(model, calibration)
    assert not same(state_of(variant.model), before)
    with torch.no_grad():
        for weight in variant.model.parameters():
            weight.add_(1.0)
    assert same(state_of(model), before) and model.config.to_dict() == config


def test_equal_inputs_give_equal_weights_whatever_ran_before(model, calibration):
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(applied(model, calibration, FALLING).model)
    assert same(state_of(made[0]), state_of(made[1])) and not made[0].training


@one_family
def test_a_larger_scale_keeps_no_fewer_tokens(model, calibration):
    pruned, counted = applied(model, calibration, FALLING, epochs=0).model, calibration.batches
    left = []
    for scale in (0.0, 0.7, 0.85, 1.0, 1.2, 2.0):
        pruned.config.knobs = {"alpha_sc": scale}
        left.append(tokens_left(pruned, counted(48, 16), quiet))
    assert left == sorted(left) and left[-1] == [1.0, 1.0]
    assert left[0] == pytest.approx([1 / calibration.histogram.mean] * 2)


def test_shares_of_one_give_the_dense_logits(model, calibration, batch):
    variant = applied(model, calibration, FALLING, epochs=0)
    assert not torch.allclose(logits_of(variant.model, batch), logits_of(model, batch), atol=1e-3)
    level = {"medians": torch.tensor([0.6, 0.6], dtype=torch.float64)}
    same_model = applied(model, calibration, level, epochs=0).model
    assert torch.allclose(logits_of(same_model, batch), logits_of(model, batch), atol=1e-5)
    assert same_model.token_rule.shares == pytest.approx([1.0, 1.0])


def test_variants_survive_a_folder(model, calibration, batch, tmp_path):
    variant = applied(model, calibration, FALLING)
    variant.model.save_pretrained(tmp_path)
    back, info = TrimtabForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values())
    assert torch.equal(logits_of(back.eval(), batch), logits_of(variant.model, batch))
    assert back.token_rule.shares == variant.notes["shares"]


@one_family
def test_a_second_token_rule_is_refused(model, calibration):
    pruned = applied(model, calibration, FALLING, epochs=0).model
    with pytest.raises(ValueError, match="a token rule yet, but it has one of kind 'share'"):
        applied(pruned, calibration, FALLING)


# A task in which one marker, anywhere in the text, tells the class; every other token is noise


def marker_rows(n_rows, seed):
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(12, 21, (n_rows,), generator=random).sort().values
    real = torch.arange(int(lengths[-1]))[None, :] < lengths[:, None]
    labels = torch.randint(0, 2, (n_rows,), generator=random)
    place = 1 + (torch.rand(n_rows, generator=random) * (lengths - 1)).long()
    ids = torch.randint(10, 90, real.shape, generator=random)
    ids[:, 0] = 2
    ids[torch.arange(n_rows), place] = 5 + labels
    rows = {"input_ids": ids * real, "attention_mask": real.long(), "labels": labels}

    def batches(stop, batch_size, start=0):
        ends = range(start, min(stop, n_rows), batch_size)
        return [
            {k: v[i : min(i + batch_size, stop, n_rows)] for k, v in rows.items()} for i in ends
        ]

    return Calibration(n_rows, LengthHistogram.from_lengths(lengths.tolist()), batches)


def accuracy(model, rows):
    batches = rows.batches(rows.n_rows, 64)
    right = sum(int((logits_of(model, b).argmax(dim=1) == b["labels"]).sum()) for b in batches)
    return right / rows.n_rows


@functools.cache
def trained_model(make_stock):
    model, rows = to_elastic(make_stock("bert", num_labels=2)), marker_rows(320, seed=1)
    groups = [Group(list(model.parameters()), 2e-3)]
    fine_tune(model, rows.batches(320, 32), lambda b: task_loss(model, b), groups, 10, quiet)
    return model


@pytest.mark.slow
def test_a_trained_model_keeps_its_accuracy_with_half_of_the_tokens(stock_of):
    model, train, test = trained_model(stock_of), marker_rows(320, 1), marker_rows(320, 2)
    assert accuracy(model, test) >= 0.95
    steep = {"medians": torch.tensor([0.4, 0.1], dtype=torch.float64)}  # P_0 is 0.7
    variant = applied(model, train, steep, lr=1e-4)
    assert variant.notes["tokens_left"]["end"][0] < 0.6
    assert accuracy(variant.model, test) >= 0.9


# Before anything is run


def test_the_cheapest_is_the_first_token_alone_after_one_attention():
    shape, histogram = EncoderShape.dense(32, 2, 4, 48), LengthHistogram({1: 2, 17: 3})
    found = AccStrategy().reach(shape, histogram)
    long = encoder_macs_at(shape, [(17, 1, 1), (1, 1, 1)])
    short = encoder_macs_at(shape, [(1, 1, 1)] * 2)
    assert found.low_flops == pytest.approx(2 * (3 * long + 2 * short) / 5)
    assert found.high_flops == mean_flops(shape, histogram)


def test_planning_needs_no_torch():
    program = (
        "import sys; from trimtab_strategies.acc import AccStrategy as S; "
        "from trimtab_strategies.cost import *; "
        "S().reach(EncoderShape.dense(32, 2, 4, 48), LengthHistogram({8: 1})); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
