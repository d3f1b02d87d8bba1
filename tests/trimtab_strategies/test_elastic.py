import json
import subprocess
import sys

import pytest
import torch

from trimtab_strategies.elastic import Gates, TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic
from trimtab_strategies.slicing import ones_like_gates, shape_of, slice_model

INPUTS = ("input_ids", "attention_mask")


@torch.no_grad()
def logits_of(model, batch, **more):
    return model(**{name: batch[name] for name in INPUTS}, **more).logits


def random_gates(model, seed, keep=0.5, scaled=True):
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        kept = torch.rand(count, generator=generator) < keep
        factors = 0.5 + torch.rand(count, generator=generator) if scaled else torch.ones(count)
        return kept * factors

    config = model.config
    return Gates(
        [draw(k) for k in config.heads_per_layer], [draw(k) for k in config.filters_per_layer]
    )


def test_logits_equal_the_stock_model(stock, model, batch):
    assert torch.allclose(logits_of(stock, batch), logits_of(model, batch), atol=1e-5, rtol=0)


def test_token_types_change_logits_as_in_the_stock_model(family, stock, model, batch):
    if family in ("roberta", "distilbert"):
        kinds = torch.zeros_like(batch["input_ids"])
    else:
        kinds = (torch.arange(batch["input_ids"].shape[1]) > 4).long().expand_as(batch["input_ids"])
    ours = logits_of(model, batch, token_type_ids=kinds)
    assert torch.allclose(logits_of(stock, batch, token_type_ids=kinds), ours, atol=1e-5, rtol=0)


def test_padding_and_batch_mates_do_not_change_logits(model, batch):
    together = logits_of(model, batch)
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        alone = {name: batch[name][row : row + 1, :length] for name in INPUTS}
        assert torch.allclose(together[row], logits_of(model, alone)[0], atol=1e-5, rtol=0)


def test_all_zero_gates_change_logits(model, batch):
    ones = ones_like_gates(model)
    zeros = Gates([g * 0 for g in ones.heads], [g * 0 for g in ones.filters])
    dense = logits_of(model, batch, packed=False)
    assert torch.equal(dense, logits_of(model, batch, gates=ones))
    assert (dense - logits_of(model, batch, gates=zeros)).abs().max() > 1e-2
    only_heads = Gates(zeros.heads, ones.filters)
    only_filters = Gates(ones.heads, zeros.filters)
    assert (dense - logits_of(model, batch, gates=only_heads)).abs().max() > 1e-2
    assert (dense - logits_of(model, batch, gates=only_filters)).abs().max() > 1e-2


def test_a_gate_for_each_sample_equals_one_run_a_sample(model, batch):
    n_rows = len(batch["labels"])
    each = [random_gates(model, seed) for seed in range(n_rows)]
    stacked = Gates(
        [torch.stack(gates) for gates in zip(*(g.heads for g in each), strict=True)],
        [torch.stack(gates) for gates in zip(*(g.filters for g in each), strict=True)],
    )
    together = logits_of(model, batch, gates=stacked)
    for row in range(n_rows):
        one = logits_of(model, batch, gates=each[row])[row]
        assert torch.allclose(together[row], one, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_sliced_equals_masked(model, batch, seed):
    gates = random_gates(model, seed)
    small = slice_model(model, gates)
    assert torch.allclose(
        logits_of(model, batch, gates=gates), logits_of(small, batch), atol=1e-5, rtol=0
    )
    assert small.num_parameters() < model.num_parameters()


@pytest.mark.parametrize("empty", ["heads", "filters", "both"])
def test_sliced_equals_masked_with_nothing_left_in_a_layer(model, batch, empty):
    gates = random_gates(model, 3, keep=0.7)
    if empty in ("heads", "both"):
        gates.heads[0].zero_()
    if empty in ("filters", "both"):
        gates.filters[1].zero_()
    small = slice_model(model, gates)
    shape = shape_of(small.config)
    assert (shape.heads[0] == 0) == (empty != "filters")
    assert (shape.filters[1] == 0) == (empty != "heads")
    assert torch.allclose(
        logits_of(model, batch, gates=gates), logits_of(small, batch), atol=1e-5, rtol=0
    )


def test_slicing_a_sliced_model_again(model, batch):
    first = slice_model(model, random_gates(model, 1, keep=0.8))
    gates = random_gates(first, 2, keep=0.8)
    masked = logits_of(first, batch, gates=gates)
    assert torch.allclose(masked, logits_of(slice_model(first, gates), batch), atol=1e-5, rtol=0)


def test_slicing_leaves_the_original_alone(model, batch):
    before = logits_of(model, batch)
    small = slice_model(model, random_gates(model, 4))
    with torch.no_grad():
        for weight in small.parameters():
            weight.zero_()
    assert torch.equal(before, logits_of(model, batch))


@pytest.mark.parametrize("argument", ["head_mask", "output_attentions", "inputs_embeds"])
def test_an_argument_that_would_be_ignored_is_refused(model, batch, argument):
    with pytest.raises(TypeError, match=argument):
        logits_of(model, batch, **{argument: torch.ones(2, 4)})


def test_labels_give_the_mean_cross_entropy(model, batch):
    out = model(**batch)
    expected = torch.nn.functional.cross_entropy(out.logits, batch["labels"])
    assert torch.equal(out.loss, expected)


LOAD_IN_A_FRESH_PROCESS = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForSequenceClassification
import trimtab.hf
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
ids, mask = (torch.tensor(part) for part in json.load(open(sys.argv[2])))
with torch.no_grad():
    print(json.dumps(model(ids, mask).logits.tolist()))
"""


def test_uneven_checkpoint_survives_a_round_trip_in_a_fresh_process(model, batch, tmp_path):
    gates = random_gates(model, 5)
    gates.heads[1].zero_()
    gates.filters[0].zero_()
    small = slice_model(model, gates)
    small.save_pretrained(tmp_path / "small")
    inputs = [batch[name].tolist() for name in INPUTS]
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    out = subprocess.run(
        [
            sys.executable,
            "-c",
            LOAD_IN_A_FRESH_PROCESS,
            tmp_path / "small",
            tmp_path / "inputs.json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    assert torch.equal(torch.tensor(json.loads(out.stdout)), logits_of(small, batch))


def test_loading_reports_nothing_missing(model, tmp_path):
    slice_model(model, random_gates(model, 6)).save_pretrained(tmp_path)
    _, info = TrimtabForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]


def test_a_decoder_or_another_family_is_refused(stock):
    stock.config.is_decoder = True
    with pytest.raises(ValueError, match="is_decoder"):
        to_elastic(stock)
    stock.config.is_decoder = False
    stock.config.model_type = "gpt2"
    with pytest.raises(ValueError, match="bert, roberta, distilbert, electra, but got 'gpt2'"):
        to_elastic(stock)
