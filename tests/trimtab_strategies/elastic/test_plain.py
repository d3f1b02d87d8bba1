"""The plain forward of static points, compiled or not, against the packed one."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.elastic.plain_trimtab import PlainForward, what_acts
from trimtab_strategies.families import to_elastic
from trimtab_strategies.slicing import ones_like_gates, slice_model

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LENGTHS = (20, 13, 7, 3, 1)
SHARES = {"kind": "share", "shares": [0.5, 0.5, 0.5]}
THRESHOLDS = {"kind": "threshold", "normaliser": "fixed", "reference_length": 16}
EXITS = {"layers": [0, 1], "kind": "linear", "read": "first", "width": 8}


def cut(model, how):
    gates = ones_like_gates(model)
    if how == "uneven":
        gates.heads[0][::2], gates.filters[1][::3] = 0, 0
    if how in ("no heads", "empty layers"):
        gates.heads[0][:] = 0
    if how in ("no filters", "empty layers"):
        gates.filters[1][:] = 0
    if how == "empty layers":
        gates.heads[1][:], gates.filters[0][:] = 0, 0
    return slice_model(model, gates).eval()


@pytest.fixture(params=["whole", "uneven", "no heads", "no filters", "empty layers"])
def small(request, model):
    """A model of every family, cut in different ways."""
    return cut(model, request.param)


@pytest.fixture
def bert(stock_of):
    return to_elastic(stock_of("bert"))


@pytest.fixture
def compiling(monkeypatch):
    """Compiles without a C++ compiler: the same graphs and guards, run by torch itself."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    yield counters["stats"]
    torch._dynamo.reset()


def with_rules(**settings):
    torch.manual_seed(0)
    config = TrimtabConfig(
        vocab_size=90,
        hidden_size=32,
        head_dim=8,
        heads_per_layer=[4, 3, 2],
        filters_per_layer=[40, 30, 20],
        max_position_embeddings=40,
        **settings,
    )
    return TrimtabForSequenceClassification(config).eval()


def logits(model, batch):
    return model(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids")).logits


def test_it_says_what_the_packed_forward_says(small, batch_of):
    batch = batch_of(small.config.pad_token_id, LENGTHS)
    with torch.no_grad():
        got = PlainForward(small)(batch["input_ids"], batch["attention_mask"])
        torch.testing.assert_close(got, logits(small, batch), **CLOSE)


def test_the_weights_are_shared_and_nothing_is_added(model):
    plain = PlainForward(model)
    ours = {weight.data_ptr() for weight in model.parameters()}
    assert {weight.data_ptr() for weight in plain.parameters()} == ours
    assert not plain.training


@pytest.mark.parametrize(
    ("settings", "knobs", "word"),
    [
        ({}, {}, None),
        ({}, {"tau": 0.5}, None),
        ({"exits": EXITS}, {}, None),
        ({"exits": EXITS}, {"tau": 0.5, "exits": []}, None),
        ({"exits": EXITS}, {"tau": 0.5}, "early exits"),
        ({"exits": EXITS}, {"patience": 1}, "early exits"),
        ({"exits": EXITS}, {"agreements": 2, "exits": [1]}, "early exits"),
        ({"token_rule": SHARES}, {}, "tokens"),
        ({"token_rule": SHARES}, {"alpha_sc": 2.0}, None),
        ({"token_rule": {**SHARES, "shares": [1.0, 1.0, 0.5]}}, {}, None),
        ({"token_rule": {**SHARES, "shares": [1.0, 0.9, 1.0]}}, {}, "tokens"),
        ({"token_rule": THRESHOLDS}, {}, "tokens"),
    ],
)
def test_what_depends_on_the_texts_is_named(settings, knobs, word):
    found = what_acts(with_rules(**settings, knobs=knobs))
    assert (found is None) if word is None else (word in found)


def test_where_nothing_acts_rules_and_exits_change_nothing(batch_of):
    model = with_rules(token_rule=SHARES, exits=EXITS, knobs={"alpha_sc": 2.0})
    batch = batch_of(0, LENGTHS)
    with torch.no_grad():
        got = PlainForward(model)(batch["input_ids"], batch["attention_mask"])
        torch.testing.assert_close(got, logits(model, batch), **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "how"), [("bert", "no heads"), ("distilbert", "empty layers"), ("roberta", "uneven")]
)
def test_one_graph_serves_single_texts_of_all_lengths(model, how, batch_of, compiling):
    small = cut(model, how)
    wanted, pad = copy.deepcopy(small), small.config.pad_token_id
    small.keep_layouts()
    small.keep_compiled()
    for mode in (torch.no_grad, torch.inference_mode):
        for length in (8, 1, 2, 3, 20, 40, 17):
            texts = batch_of(pad, [length])
            longer = {
                name: torch.nn.functional.pad(values, (0, 40 - length), value=value)
                for name, values, value in (
                    ("input_ids", texts["input_ids"], pad),
                    ("attention_mask", texts["attention_mask"], 0),
                )
            }
            with mode():
                for batch in (texts, longer):
                    torch.testing.assert_close(logits(small, batch), logits(wanted, batch), **CLOSE)
    assert compiling["unique_graphs"] == 1


@pytest.mark.slow
def test_a_gap_in_a_text_and_token_types_count(bert, batch_of, compiling):
    model, wanted = bert, copy.deepcopy(bert)
    model.keep_compiled()
    batch = batch_of(model.config.pad_token_id, [12])
    batch["attention_mask"][0, 4:7] = 0
    batch["token_type_ids"] = (torch.arange(12)[None] > 5).long()
    with torch.no_grad():
        torch.testing.assert_close(logits(model, batch), logits(wanted, batch), **CLOSE)
    assert compiling["unique_graphs"] == 1


@pytest.mark.slow
def test_batches_gradients_and_what_acts_run_as_ever(batch_of, compiling):
    model = with_rules(exits=EXITS, knobs={"tau": 0.99})
    wanted = copy.deepcopy(model)
    model.keep_compiled()
    one, many = batch_of(0, [9]), batch_of(0, LENGTHS)
    with torch.no_grad():
        torch.testing.assert_close(logits(model, one), logits(wanted, one), **CLOSE)
    model.config.knobs = wanted.config.knobs = {}
    with torch.no_grad():
        torch.testing.assert_close(logits(model, many), logits(wanted, many), **CLOSE)
    logits(model, one).sum().backward()
    assert model.head.out.weight.grad is not None
    assert not compiling["unique_graphs"]
    with torch.no_grad():
        torch.testing.assert_close(logits(model, one), logits(wanted, one), **CLOSE)
    assert compiling["unique_graphs"] == 1


@pytest.mark.slow
def test_weights_that_change_are_seen(bert, batch_of, compiling):
    model = bert
    model.keep_compiled()
    batch = batch_of(model.config.pad_token_id, [9])
    with torch.no_grad():
        before = logits(model, batch)
        model.head.out.bias += 1
        torch.testing.assert_close(logits(model, batch), before + 1, **CLOSE)


@pytest.mark.slow
def test_copies_hold_weights_only(bert, batch_of, compiling, tmp_path):
    model = bert
    names = set(model.state_dict())
    model.keep_compiled()
    with torch.no_grad():
        logits(model, batch_of(model.config.pad_token_id, [9]))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other._compiled is None
    assert set(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    again = TrimtabForSequenceClassification.from_pretrained(tmp_path)
    assert set(again.state_dict()) == names
