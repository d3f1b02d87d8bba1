"""Every setting worked out from one pass, against the model run at that very setting."""

import numpy as np
import pytest
import torch

from trimtab_strategies.cost import EncoderShape, LengthHistogram, encoder_macs, mean_flops
from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.slicing import shape_of
from trimtab_workers.data import Encoded
from trimtab_workers.evaluation import predict
from trimtab_workers.metrics import metric_value
from trimtab_workers.sweeping import GRID, flops_at, has_knobs, record, subsets, sweep

CPU = torch.device("cpu")
RULES = {
    "none": None,
    "ltp": {"kind": "threshold", "normaliser": "fixed", "reference_length": 16},
    "acc": {"kind": "share", "shares": [0.9, 0.7, 0.8, 0.9]},
}


@pytest.fixture
def seed(seed):
    torch.manual_seed(seed)
    return seed


def make_model(rule, exits=(0, 1, 2), n_classes=3):
    settings = {"layers": list(exits), "kind": "mlp", "read": "mean", "width": 8}
    config = TrimtabConfig(
        vocab_size=50,
        hidden_size=16,
        head_dim=4,
        heads_per_layer=[3, 2, 4, 1],
        filters_per_layer=[20, 8, 9, 30],
        max_position_embeddings=40,
        num_labels=n_classes,
        token_rule=RULES[rule],
        exits=settings if exits else None,
    )
    model = TrimtabForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                weight.normal_(0, 0.5)
        if rule == "ltp":
            model.token_rule.base.copy_(torch.linspace(0.03, 0.09, 4))
    return model


def make_rows(rng, n=60, n_classes=3):
    lengths = rng.integers(1, 30, n)
    ids = [rng.integers(1, 50, length).tolist() for length in lengths]
    return Encoded.from_lists(ids, rng.integers(0, n_classes, n).tolist())


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_swept_settings_are_what_the_model_does_at_them(rule, metric, seed):
    rng = np.random.default_rng(seed)
    model, rows = make_model(rule), make_rows(rng)
    workload = LengthHistogram.from_lengths(rows.lengths.tolist())
    found, _ = sweep(model, rows, metric, workload)
    assert model.config.knobs == {}
    # How many there are is chance; the fewest that were seen are 15, without a rule of tokens.
    assert len(found) > 10
    for setting in found:
        model.config.knobs = setting.knobs
        said = predict(model, rows, pad_token_id=0, device=CPU).argmax(axis=1)
        expected = metric_value(metric, said, rows.labels, 3)
        assert setting.metric == pytest.approx(expected), setting
        assert setting.flops == pytest.approx(flops_at(model, rows, workload)), setting


def test_the_offline_curve_is_the_online_one_sample_by_sample(seed):
    from trimtab_strategies.replay import leaves_by_entropy, predictions_of, uncertainty

    rng = np.random.default_rng(seed)
    model, rows = make_model("ltp"), make_rows(rng, n=200)
    records = record(model, rows)
    u, said = uncertainty(records.exit_logits), predictions_of(records)
    for tau in rng.random(25):
        leaves = leaves_by_entropy(u, tau)
        offline = np.concatenate([records.exit_logits, records.logits[:, None]], axis=1)
        offline = offline[np.arange(len(rows)), leaves]
        model.config.knobs = {"tau": float(tau)}
        online = predict(model, rows, pad_token_id=0, device=CPU)
        sure = (np.abs(u - tau) > 1e-6).all(axis=1)
        assert np.allclose(online[sure], offline[sure], atol=1e-5)
        model.config.knobs = {}
    assert said.shape == (200, 4)


def test_nothing_that_is_kept_beside_the_grid_is_beaten(seed):
    rng = np.random.default_rng(seed)
    model, rows = make_model("acc"), make_rows(rng)
    found, _ = sweep(model, rows, "accuracy", LengthHistogram({10: 1}))
    fixed = 1 + len(GRID) + 6
    others = [s for s in found[fixed:] if s.knobs.get("alpha_sc", 1.0) == 1.0 or len(s.knobs) > 1]
    for one in others:
        beaten = [s for s in found if s.flops < one.flops and s.metric >= one.metric]
        assert not beaten, (one, beaten[:1])


def test_a_model_that_keeps_all_costs_what_it_costs_at_rest(seed):
    rng = np.random.default_rng(seed)
    model, rows = make_model("none"), make_rows(rng)
    workload = LengthHistogram({7: 3, 21: 1})
    found, kept = sweep(model, rows, "accuracy", workload)
    (records,) = kept.values()
    assert found[0].knobs == {}
    assert found[0].flops == pytest.approx(mean_flops(shape_of(model.config), workload))
    assert np.array_equal(records.kept, np.repeat(rows.lengths[:, None], 4, axis=1))
    first = EncoderShape(16, 4, (3,), (20,))
    least = min(setting.flops for setting in found)
    ours = sum(encoder_macs(first, int(n)) for n in rows.lengths)
    whole = sum(encoder_macs(shape_of(model.config), int(n)) for n in rows.lengths)
    assert least > ours / whole * found[0].flops


def test_models_without_rules_and_exits_have_no_knobs(seed):
    assert not has_knobs(make_model("none", exits=()))
    assert has_knobs(make_model("none")) and has_knobs(make_model("acc", exits=()))


def test_subsets_are_all_of_few_and_the_plainest_of_many():
    assert subsets(0) == []
    assert len(subsets(5)) == 31 and subsets(5)[0] == [0, 1, 2, 3, 4]
    many = subsets(11)
    assert many[0] == list(range(11)) and len(many) < 40
    assert len({tuple(used) for used in many}) == len(many)
    assert all(used == sorted(set(used)) and used for used in many)
