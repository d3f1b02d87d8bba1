"""The packed forward against the masked one, which is the specification."""

import numpy as np
import pytest
import torch

from trimtab_strategies.elastic import (
    TrimtabConfig,
    TrimtabForSequenceClassification,
    layers_trimtab,
    linear_trimtab,
    rows_trimtab,
)
from trimtab_strategies.elastic.exits_trimtab import Leaving, uncertainty
from trimtab_strategies.elastic.rows_trimtab import PackedTokens, fused_step, grouped

NEAR = 1e-6
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Scores this near to a threshold, or to each other at the cut, may fall on either side."""


def draw_config(rng, **changes):
    n_layers = int(rng.integers(1, 5))
    settings = {
        "vocab_size": 60,
        "hidden_size": 16,
        "head_dim": 4,
        "heads_per_layer": [int(n) for n in rng.integers(0, 4, n_layers)],
        "filters_per_layer": [int(n) for n in rng.integers(0, 20, n_layers)],
        "max_position_embeddings": 40,
        "type_vocab_size": int(rng.integers(0, 3)),
        "num_labels": int(rng.integers(2, 5)),
        "positions_skip_padding": bool(rng.random() < 0.3),
        "pad_token_id": 0,
    }
    if settings["positions_skip_padding"]:
        settings["pad_token_id"] = 1
    rule = rng.choice(["none", "fixed", "live", "share"])
    if rule == "share":
        shares = [float(x) for x in rng.uniform(0.2, 1.0, n_layers)]
        settings["token_rule"] = {"kind": "share", "shares": shares}
    elif rule != "none":
        settings["token_rule"] = {
            "kind": "threshold",
            "normaliser": str(rule),
            "reference_length": 16,
        }
    if n_layers > 1 and rng.random() < 0.7:
        n_exits = int(rng.integers(1, n_layers))
        layers = sorted(int(x) for x in rng.choice(n_layers - 1, n_exits, replace=False))
        settings["exits"] = {
            "layers": layers,
            "kind": str(rng.choice(["linear", "mlp", "attention"])),
            "read": str(rng.choice(["first", "mean", "both"])),
            "width": 8,
        }
    settings["knobs"] = draw_knobs(rng, settings)
    return TrimtabConfig(**(settings | changes))


def draw_knobs(rng, settings):
    knobs = {}
    if "token_rule" in settings:
        name = "alpha_sc" if settings["token_rule"]["kind"] == "share" else "delta_scale"
        knobs[name] = float(rng.uniform(0.5, 1.5))
    if "exits" in settings:
        n_exits = len(settings["exits"]["layers"])
        rule = rng.choice(["tau", "patience", "agreements"])
        knobs[str(rule)] = float(rng.random()) if rule == "tau" else int(rng.integers(1, 4))
        if rng.random() < 0.3:
            used = rng.choice(n_exits, int(rng.integers(1, n_exits + 1)), replace=False)
            knobs["exits"] = sorted(int(x) for x in used)
    return knobs


def make_model(config):
    model = TrimtabForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                weight.normal_(0, 0.4)
            elif name.endswith("bias"):
                weight.normal_(0, 0.1)
        if hasattr(model.token_rule, "base"):
            model.token_rule.base.copy_(torch.rand(config.num_hidden_layers) * 0.12)
            model.token_rule.offset.normal_(0, 0.005)
    if linear_trimtab.FEWEST_WEIGHTS == 0:  # by the fixture `layout`
        model.keep_layouts()
    return model


def draw_batch(rng, config, n_samples=None):
    n = int(rng.integers(1, 9)) if n_samples is None else n_samples
    lengths = torch.from_numpy(rng.integers(1, 24, n))
    longest = int(lengths.max() + rng.integers(0, 5))
    real = torch.arange(longest)[None, :] < lengths[:, None]
    ids = torch.from_numpy(rng.integers(2, config.vocab_size, (n, longest)))
    batch = {
        "input_ids": torch.where(real, ids, config.pad_token_id),
        "attention_mask": real.long(),
    }
    if config.type_vocab_size > 1 and rng.random() < 0.5:
        batch["token_type_ids"] = torch.from_numpy(rng.integers(0, 2, (n, longest)))
    return batch


def margins(model, batch, monkeypatch):
    """How near each sample comes to a threshold, a cut or an equal prediction in a masked run."""
    n = len(batch["input_ids"])
    near = torch.full((n,), torch.inf)
    rule, knobs = model.token_rule, model.config.knobs
    if rule is not None:
        keeps = type(rule).keeps

        def noted(self, layer, received, live, scale):
            if rule.placement == "ltp":
                scores, cut = rule.scores(received, live), rule.thresholds(scale)[layer]
                distance = (scores - cut).abs().masked_fill(~live, torch.inf).amin(dim=1)
            else:
                ordered = received.masked_fill(~live, -1).sort(dim=1).values
                gaps = ordered.diff(dim=1).masked_fill(ordered[:, 1:] < 0, torch.inf)
                distance = torch.nn.functional.pad(gaps, (0, 1), value=torch.inf).amin(dim=1)
            near.copy_(torch.minimum(near, distance))
            return keeps(self, layer, received, live, scale)

        monkeypatch.setattr(type(rule), "keeps", noted)
    decide = Leaving.decide

    def noted_decision(self, logits, samples):
        top = logits.sort(dim=1).values.diff(dim=1)[:, -1]
        distance = (uncertainty(logits) - knobs["tau"]).abs() if "tau" in knobs else top
        near.copy_(torch.minimum(near, distance))
        return decide(self, logits, samples)

    monkeypatch.setattr(Leaving, "decide", noted_decision)
    with torch.no_grad():
        logits = model(**batch, packed=False).logits
    monkeypatch.undo()
    return logits, near > NEAR


@pytest.fixture(
    params=[
        "as it is",
        "groups of equals",
        "one group",
        "always moved",
        "never moved",
        "rounded up, weights laid out",
        "padded to fours",
        "not padded further",
        "weighed one by one",
    ]
)
def layout(request, monkeypatch):
    """The ways in which rows can be grouped and moved; none may change what comes out."""
    if request.param == "groups of equals":
        monkeypatch.setitem(rows_trimtab.GROUP_MACS, "cpu", 0)
    if request.param == "one group":
        monkeypatch.setitem(rows_trimtab.GROUP_MACS, "cpu", 1e15)
    if request.param == "always moved":
        monkeypatch.setattr(rows_trimtab, "PAYS_FROM", 0.0)
    if request.param == "never moved":
        monkeypatch.setattr(rows_trimtab, "PAYS_FROM", 1.0)
    if request.param == "rounded up, weights laid out":
        monkeypatch.setattr(linear_trimtab, "FEWEST_WEIGHTS", 0)
    if request.param == "padded to fours":
        monkeypatch.setattr(rows_trimtab, "fused_step", lambda device: 4)
    if request.param == "not padded further":
        monkeypatch.setattr(rows_trimtab, "fused_step", lambda device: 1)
    if request.param == "weighed one by one":
        monkeypatch.setitem(layers_trimtab.SCORES_AT_ONCE, "cpu", 1)


def test_packed_equals_masked_under_every_combination_of_rules(seed, layout):
    rng = np.random.default_rng(seed)
    checked = 0
    for _ in range(60):
        model = make_model(draw_config(rng))
        batch = draw_batch(rng, model.config)
        with pytest.MonkeyPatch.context() as patch:
            expected, sure = margins(model, batch, patch)
        with torch.no_grad():
            found = model(**batch).logits
        assert torch.allclose(found[sure], expected[sure], **CLOSE), model.config.to_dict()
        checked += int(sure.sum())
    assert checked > 100


def test_logits_do_not_depend_on_batch_mates_padding_or_order(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        model = make_model(draw_config(rng))
        batch = draw_batch(rng, model.config)
        with pytest.MonkeyPatch.context() as patch:
            expected, sure = margins(model, batch, patch)
        order = torch.from_numpy(rng.permutation(len(expected)))
        shuffled = {name: tensor[order] for name, tensor in batch.items()}
        alone = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in order]
        wider = {
            "input_ids": (model.config.pad_token_id, 3),
            "attention_mask": (0, 3),
            "token_type_ids": (0, 3),
        }
        padded = {
            name: torch.nn.functional.pad(tensor, (0, wider[name][1]), value=wider[name][0])
            for name, tensor in shuffled.items()
        }
        sure = sure[order]
        with torch.no_grad():
            for found in (
                model(**shuffled).logits,
                model(**padded).logits,
                model(**padded, packed=False).logits,
                torch.cat([model(**one).logits for one in alone]),
            ):
                assert torch.allclose(found[sure], expected[order][sure], **CLOSE)


def test_both_forwards_trace_the_same(seed, layout):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        model = make_model(draw_config(rng, knobs={}))
        batch = draw_batch(rng, model.config)
        with pytest.MonkeyPatch.context() as patch:
            _, sure = margins(model, batch, patch)
        masked, packed = model.trace(**batch, packed=False), model.trace(**batch)
        assert torch.equal(packed.lengths, batch["attention_mask"].sum(dim=1))
        assert torch.equal(packed.kept[sure], masked.kept[sure])
        assert torch.allclose(packed.logits[sure], masked.logits[sure], **CLOSE)
        assert torch.allclose(packed.exit_logits[sure], masked.exit_logits[sure], **CLOSE)
        assert (packed.kept.diff(dim=1) <= 0).all() and packed.kept.min() >= 1


def test_tokens_in_the_middle_may_be_masked_and_a_masked_first_token_is_still_read(seed):
    rng = np.random.default_rng(seed)
    for hides_first in (False, True):
        model = make_model(draw_config(rng, token_rule=None, exits=None, knobs={}))
        batch = draw_batch(rng, model.config, n_samples=6)
        batch["attention_mask"] *= torch.from_numpy(rng.integers(0, 2, batch["input_ids"].shape))
        batch["attention_mask"][:, 0] = 1
        batch["attention_mask"][0, 0] = 0 if hides_first else 1
        with torch.no_grad():
            found, expected = model(**batch).logits, model(**batch, packed=False).logits
        sure = batch["attention_mask"].sum(dim=1) > 0
        assert torch.allclose(found[sure], expected[sure], **CLOSE)


@pytest.mark.parametrize(
    ("rule", "knobs"),
    [
        ({"kind": "threshold", "normaliser": "fixed", "reference_length": 16}, {}),
        ({"kind": "share", "shares": [1.0, 1.0, 1.0]}, {}),
        (None, {"tau": -1.0}),
        (None, {"patience": 9}),
    ],
)
def test_rules_that_take_nothing_leave_the_dense_model(rule, knobs, seed):
    rng = np.random.default_rng(seed)
    widths = {"heads_per_layer": [2, 0, 3], "filters_per_layer": [9, 5, 0]}
    exits = {"layers": [0, 1], "kind": "mlp", "read": "mean", "width": 8}
    config = draw_config(rng, **widths, token_rule=rule, exits=exits, knobs=knobs)
    model = make_model(config)
    if rule and rule["kind"] == "threshold":
        with torch.no_grad():
            model.token_rule.base.fill_(-1e-3)
            model.token_rule.offset.zero_()
    dense = TrimtabForSequenceClassification(
        TrimtabConfig.from_dict({**config.to_dict(), "token_rule": None, "exits": None})
    ).eval()
    dense.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith(("exits", "token_rule"))}
    )
    batch = draw_batch(rng, config)
    with torch.no_grad():
        for packed in (True, False):
            found = model(**batch, packed=packed).logits
            expected = dense(**batch, packed=packed).logits
            assert torch.equal(found, expected)


def test_what_is_received_adds_up_to_the_tokens(seed):
    rng = np.random.default_rng(seed)
    widths = {"heads_per_layer": [3, 2], "filters_per_layer": [4, 4]}
    config = draw_config(rng, **widths, token_rule=None, exits=None, knobs={})
    model = make_model(config)
    hidden = torch.randn(4, 9, 16)
    live = torch.arange(9)[None, :] < torch.tensor([9, 5, 1, 3])[:, None]
    layer = model.encoder_layers[0]
    with torch.no_grad():
        _, received = layer.attend_and_weigh(*layer.asked(hidden), live[:, None, None, :], live)
    assert torch.allclose(received.sum(dim=1), live.sum(dim=1).float(), **CLOSE)
    assert received[~live].abs().max() == 0


def test_packed_rows_learn_like_masked_ones(seed):
    rng = np.random.default_rng(seed)
    model = make_model(draw_config(rng, token_rule=None, exits=None, knobs={}))
    batch = draw_batch(rng, model.config)
    gradients = []
    for packed in (True, False):
        model.zero_grad()
        model(**batch, packed=packed).logits.square().sum().backward()
        gradients.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_groups_end_where_padding_would_cost_more_than_another(seed):
    assert list(grouped([], 4, "cpu")) == []
    rng = np.random.default_rng(seed)
    for _ in range(50):
        lengths = sorted((int(n) for n in rng.integers(1, 200, 20)), reverse=True)
        groups = list(grouped(lengths, 384, "cpu"))
        assert [first for first, _ in groups] == [0, *(last for _, last in groups[:-1])]
        assert groups[-1][1] == len(lengths)
        for first, last in groups:
            wasted = sum(lengths[first] ** 2 - n**2 for n in lengths[first:last])
            assert wasted * 2 * 384 <= rows_trimtab.GROUP_MACS["cpu"]


def test_groups_give_back_the_rows_that_they_lay_out(seed):
    rng = np.random.default_rng(seed)
    alone = 0
    for _ in range(100):
        n_samples, step = int(rng.integers(1, 7)), int(rng.choice([1, 2, 5, 16]))
        lengths = sorted((int(n) for n in rng.integers(1, 40, n_samples)), reverse=True)
        rows = torch.randn(sum(lengths) + int(rng.integers(0, 20)), 3)
        width = int(rng.choice([1, 10**4, 10**9]))  # all in one group, some, or each alone
        tokens = PackedTokens(rows, lengths, torch.arange(n_samples), width)
        groups = tokens.groups(step)
        laid_out = [group.pad(rows) for group in groups]
        for group, padded in zip(groups, laid_out, strict=True):
            if group.real is not None:  # what stands there must not matter
                padded = padded.clone()
                padded[~group.real] = torch.nan
                laid_out[groups.index(group)] = padded
        joined = tokens.joined(groups, laid_out)
        assert joined.shape == rows.shape
        assert torch.equal(joined[: tokens.n_rows], rows[: tokens.n_rows])
        for group in groups:
            own, live = lengths[group.samples], tokens.live_in(group)
            shown = [own] if live is None else [live.sum(dim=1).tolist()]
            assert shown == [own]
            if n_samples > 1 or -(-own[0] // step) * step <= len(rows):
                assert group.length % step == 0
            else:
                assert group.length == own[0]
                alone += 1
    assert alone > 0


@pytest.mark.parametrize("keeps_layouts", [False, True])
@pytest.mark.parametrize("lengths", [[49, 15], [49, 14], [120, 3, 3], [97, 8, 4, 2], [3], [1, 1]])
def test_texts_of_very_different_lengths_have_groups_of_their_own(lengths, keeps_layouts):
    torch.manual_seed(0)
    config = TrimtabConfig(
        vocab_size=60,
        hidden_size=768,
        head_dim=64,
        heads_per_layer=[12, 12],
        filters_per_layer=[64, 64],
        max_position_embeddings=128,
        num_labels=3,
    )
    model = make_model(config)
    if keeps_layouts:
        model.keep_layouts()
    real = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    batch = {"input_ids": torch.randint(2, 60, real.shape) * real, "attention_mask": real.long()}
    with torch.inference_mode():
        found, expected = model(**batch).logits, model(**batch, packed=False).logits
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_text_that_is_no_number_any_more_leaves_the_others_alone(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        settings = {"token_rule": None, "exits": None, "knobs": {}, "positions_skip_padding": False}
        model = make_model(draw_config(rng, **settings, pad_token_id=0))
        batch = draw_batch(rng, model.config, n_samples=5)
        batch["input_ids"][2, 0] = 59
        others = batch["input_ids"] != 59
        batch["input_ids"] = torch.where(others, batch["input_ids"], 58)
        batch["input_ids"][2, 0] = 59
        with torch.no_grad():
            model.embeddings.word.weight[59] = torch.nan
            found = model(**batch).logits
        assert found.isnan().any(dim=1).tolist() == [False, False, True, False, False]


def test_fused_attention_is_padded_to_what_the_processor_takes_at_once():
    assert fused_step("cuda") == fused_step("mps") == 1
    steps = {"AVX512": 16, "AVX2": 8}
    assert fused_step("cpu") == steps.get(torch.backends.cpu.get_cpu_capability(), 1)


def test_uncertainty_has_the_published_values():
    logits = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    assert uncertainty(logits).tolist() == pytest.approx([1.0, 0.46900], abs=1e-5)
    three = torch.tensor([[0.7, 0.2, 0.1]]).log()
    assert float(uncertainty(three)) == pytest.approx(0.72985, abs=1e-5)


@pytest.mark.parametrize(("knobs", "leaves_at"), [({"agreements": 2}, 3), ({"patience": 2}, None)])
def test_the_published_example_of_patience(knobs, leaves_at):
    leaving, left = Leaving(knobs, 1, torch.device("cpu")), None
    for place, label in enumerate([1, 1, 0, 0, 1, 1]):
        goes = leaving.decide(torch.eye(2)[[label]], torch.tensor([0]))
        if bool(goes) and left is None:
            left = place
    assert left == leaves_at
