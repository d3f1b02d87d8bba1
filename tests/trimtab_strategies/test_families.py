"""What tells the stock families apart is kept: in logits, in training, and through a folder."""

import json

import pytest
import torch

from trimtab_strategies.dialects import DIALECTS
from trimtab_strategies.elastic import Gates, TrimtabConfig, TrimtabForSequenceClassification
from trimtab_strategies.families import FAMILIES, elastic_config, to_elastic
from trimtab_strategies.slicing import ones_like_gates, slice_model

# What users have beside the plain forms: small ELECTRA, fixed positions, other dropouts and names.
ODD = [
    ("bert", {"hidden_act": "relu", "classifier_dropout": 0.4, "layer_norm_eps": 1e-3}),
    ("roberta", {"layer_norm_eps": 1e-5, "type_vocab_size": 2, "pad_token_id": 3}),
    ("distilbert", {"sinusoidal_pos_embds": True}),
    ("distilbert", {"activation": "relu", "seq_classif_dropout": 0.5, "attention_dropout": 0.3}),
    ("distilbert", {"layer_norm_eps": 0.5, "type_vocab_size": 7}),  # means nothing to it
    ("electra", {"embedding_size": 8}),
    ("electra", {"embedding_size": 64, "classifier_dropout": 0.3, "hidden_act": "gelu_new"}),
    ("electra", {"embedding_size": 8, "type_vocab_size": 3, "layer_norm_eps": 1e-3}),
]


@pytest.fixture(params=[*((name, {}) for name in FAMILIES), *ODD], ids=str)
def kind(request):
    return request.param


def logits_of(model, batch, **more):
    return model(batch["input_ids"], attention_mask=batch["attention_mask"], **more).logits


def settings_of(model):
    return {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}


def small_gates(model):
    gates = ones_like_gates(model)
    gates.heads[0][1:3] = 0
    gates.heads[1][0] = 0.7
    gates.filters[0][:30] = 0
    gates.filters[1][5:] = 0
    return gates


@torch.no_grad()
def test_logits_equal_the_stock_model(kind, stock_of, batch_of):
    stock = stock_of(kind[0], **kind[1])
    model = to_elastic(stock)
    batch = batch_of(model.config.pad_token_id, [20, 13, 7, 3, 1])
    assert torch.allclose(logits_of(stock, batch), logits_of(model, batch), atol=1e-5, rtol=0)


@torch.no_grad()
def test_dropout_comes_where_the_stock_model_has_it(kind, stock_of, batch_of):
    stock = stock_of(kind[0], **kind[1]).train()
    model = to_elastic(stock).train()
    batch = batch_of(model.config.pad_token_id, [20, 13, 7])
    drawn = []
    for each in (stock, model, model):
        torch.manual_seed(4 if len(drawn) < 2 else 5)
        drawn.append(logits_of(each, batch))
    assert torch.allclose(drawn[0], drawn[1], atol=1e-5, rtol=0)
    assert not torch.allclose(drawn[1], drawn[2], atol=1e-2), "nothing is dropped out"


@torch.no_grad()
def test_sliced_equals_masked_also_after_a_folder(kind, tmp_path, stock_of, batch_of):
    model = to_elastic(stock_of(kind[0], **kind[1]))
    batch, gates = batch_of(model.config.pad_token_id, [20, 13, 7, 3, 1]), small_gates(model)
    small = slice_model(model, gates)
    masked = logits_of(model, batch, gates=gates)
    assert torch.allclose(masked, logits_of(small, batch), atol=1e-5, rtol=0)
    small.save_pretrained(tmp_path)
    again = TrimtabForSequenceClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(logits_of(small, batch), logits_of(again, batch))
    assert settings_of(again) == settings_of(small)


@torch.no_grad()
def test_token_types_count_where_the_model_has_them(kind, stock_of, batch_of):
    stock = stock_of(kind[0], **kind[1])
    model = to_elastic(stock)
    batch = batch_of(model.config.pad_token_id, [9, 9])
    kinds = torch.ones_like(batch["input_ids"])
    kinds[:, :4] = 0
    if model.config.type_vocab_size == 1:
        kinds[:] = 0  # the stock model has no other
    ours = logits_of(model, batch, token_type_ids=kinds)
    theirs = logits_of(stock, batch, token_type_ids=kinds)
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=0)
    differ = not torch.equal(ours, logits_of(model, batch))
    assert differ == (model.config.type_vocab_size > 1)


def test_fixed_positions_are_stored_as_they_are(stock_of):
    stock = stock_of("distilbert", sinusoidal_pos_embds=True)
    stored = to_elastic(stock).embeddings.position.weight
    assert torch.equal(stored[0, :4], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert torch.equal(stored, stock.distilbert.embeddings.position_embeddings.weight)


def test_only_narrow_embeddings_have_a_projection(stock_of):
    for width, names in ((32, set()), (8, {"weight", "bias"})):
        model = to_elastic(stock_of("electra", embedding_size=width))
        assert {name for name, _ in model.embeddings.project.named_parameters()} == names
        assert model.embeddings.word.weight.shape == (90, width)


def test_an_embedding_size_means_nothing_to_other_families(config_of):
    config = config_of("bert")
    config.embedding_size = 8
    assert elastic_config(config).embedding_size == 32


def test_checkpoints_from_before_these_families_still_load(tmp_path, stock_of, batch_of):
    new = ("embedding_size", "head_activation", "dropout_after_attention")
    for name in ("bert", "roberta"):
        model, folder = to_elastic(stock_of(name)), tmp_path / name
        model.save_pretrained(folder)
        path = folder / "config.json"
        stated = json.loads(path.read_text())
        old = {key: value for key, value in stated.items() if key not in new}
        assert len(stated) - len(old) == len(new)
        path.write_text(json.dumps(old))
        again = TrimtabForSequenceClassification.from_pretrained(folder).eval()
        assert settings_of(again) == settings_of(model)
        batch = batch_of(model.config.pad_token_id, [9, 4])
        with torch.no_grad():
            assert torch.equal(logits_of(model, batch), logits_of(again, batch))


def test_a_config_of_nothing_but_sizes_is_a_plain_one():
    config = TrimtabConfig(hidden_size=12, head_dim=4, heads_per_layer=[3], filters_per_layer=[5])
    assert (config.embedding_size, config.head_activation) == (12, "tanh")
    assert config.dropout_after_attention and not config.dropout_before_head
    assert TrimtabConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_every_family_has_a_table_and_a_dialect():
    assert list(FAMILIES) == list(DIALECTS)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_dialect_says_what_the_stock_configuration_says(name, config_of):
    """The defaults of missing keys are those of transformers, and every own name exists there."""
    dialect, config = DIALECTS[name], type(config_of(name))()
    for setting in (*dialect.own_names.values(), *dialect.own_sizes, *dialect.own_settings):
        assert hasattr(config, setting)
    assert config.pad_token_id == dialect.pad_token_id
    assert getattr(config, "type_vocab_size", 0) == dialect.type_vocab_size
    assert not any(hasattr(config, setting) for setting in dialect.lacks)


def test_gates_may_empty_layers_of_a_narrow_model(stock_of, batch_of):
    model = to_elastic(stock_of("electra", embedding_size=8))
    ones = ones_like_gates(model)
    gates = Gates([ones.heads[0] * 0, ones.heads[1]], [ones.filters[0], ones.filters[1] * 0])
    small = slice_model(model, gates)
    assert small.config.heads_per_layer == [0, 4] and small.config.filters_per_layer == [48, 0]
    batch = batch_of(0, [9, 4])
    with torch.no_grad():
        masked = logits_of(model, batch, gates=gates)
        assert torch.allclose(masked, logits_of(small, batch), atol=1e-5, rtol=0)
