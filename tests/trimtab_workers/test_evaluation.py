from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from trimtab_workers.data import Encoded, load_task_data
from trimtab_workers.errors import ModelError, WorkerInputError
from trimtab_workers.evaluation import evaluate, predict
from trimtab_workers.sources import load_stock_model

CPU = torch.device("cpu")


class Echo(nn.Module):
    """Says of each row how long it is and what its first token is."""

    def forward(self, input_ids, attention_mask):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        length = attention_mask.sum(1)
        return SimpleNamespace(logits=torch.stack([length, input_ids[:, 0]], dim=1))


def rows(lengths):
    return Encoded.from_lists(
        [[10 * i + 10] * n for i, n in enumerate(lengths)], [i % 2 for i in range(len(lengths))]
    )


def test_logits_are_in_the_order_of_the_rows():
    logits = predict(Echo(), rows([3, 9, 1, 4, 9]), pad_token_id=0, device=CPU, batch_size=2)
    assert logits.tolist() == [[3, 10], [9, 20], [1, 30], [4, 40], [9, 50]]
    assert logits.dtype == np.float32


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra"])
def test_logits_do_not_depend_on_the_batch_size(toy_task, saved_models, name):
    data = load_task_data(toy_task(), saved_models[name])
    model = load_stock_model(saved_models[name], num_labels=2)
    one, *others = (
        predict(
            model, data.train, pad_token_id=data.pad_token_id, device=CPU, batch_size=batch_size
        )
        for batch_size in (1, 7, 32, 1000)
    )
    assert np.ptp(one, axis=0).max() > 1e-3, "rows differ, so that their order matters"
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_pairs_reach_the_model_with_their_types(toy_task, saved_models, rows_of):
    def pairs(n):
        return [(text, text, y) for text, y in rows_of(n)]

    task = toy_task(train=pairs(160), validation=pairs(120), header=("a", "b", "y"))
    data = load_task_data(task, saved_models["bert"])
    model = load_stock_model(saved_models["bert"], num_labels=2)
    with_types = predict(model, data.search, pad_token_id=0, device=CPU)
    without = Encoded(data.search.tokens, data.search.offsets, data.search.labels)
    assert np.abs(predict(model, without, pad_token_id=0, device=CPU) - with_types).max() > 1e-4


def test_evaluation_scores_against_the_labels():
    result = evaluate(Echo(), rows([50, 5, 5, 5]), metric="accuracy", pad_token_id=0, device=CPU)
    # the larger of length and first token: classes 0, 1, 1, 1 against 0, 1, 0, 1
    assert (result.metric, result.n) == (0.75, 4)
    assert result.logits.shape == (4, 2)


def test_progress_counts_rows():
    told = []
    predict(
        Echo(),
        rows([1, 2, 3]),
        pad_token_id=0,
        device=CPU,
        batch_size=2,
        progress=lambda *state: told.append(state),
    )
    assert told == [("evaluating", 2, 3), ("evaluating", 3, 3)]


def test_logits_that_are_not_finite_are_an_error():
    class Broken(Echo):
        def forward(self, input_ids, attention_mask):
            logits = super().forward(input_ids, attention_mask).logits.float()
            logits[input_ids[:, 0] == 20] = float("nan")
            return SimpleNamespace(logits=logits)

    with pytest.raises(
        ModelError, match="logits must be finite, but the model's are not in 1 of 3"
    ):
        predict(Broken(), rows([1, 2, 3]), pad_token_id=0, device=CPU)


def test_no_rows_are_an_error():
    with pytest.raises(WorkerInputError, match="at least one row, got none"):
        evaluate(Echo(), rows([]), metric="f1", pad_token_id=0, device=CPU)
