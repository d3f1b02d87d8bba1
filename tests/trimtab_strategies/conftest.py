import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from trimtab_strategies.base import Calibration
from trimtab_strategies.cost import LengthHistogram
from trimtab_strategies.families import to_elastic

SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 3,
}
VARIANTS = {
    "bert": SIZES | {"max_position_embeddings": 40},
    "roberta": SIZES | {"max_position_embeddings": 42, "type_vocab_size": 1},
    "distilbert": {
        "vocab_size": 90,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": 40,
        "num_labels": 3,
    },
    "electra": SIZES | {"embedding_size": 32, "max_position_embeddings": 40},
}


def stock_config(family, **changes):
    return AutoConfig.for_model(family, **(VARIANTS[family] | changes))


def make_stock(family, seed=0, **changes):
    """A random stock classifier whose weights are large enough for its logits to differ."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(stock_config(family, **changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                weight.normal_(0, 0.25)
            elif name.endswith("bias"):
                weight.normal_(0, 0.1)
    return model.eval()


def make_batch(pad_token_id, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(5, SIZES["vocab_size"], (len(lengths), longest), generator=generator)
    mask = torch.arange(longest)[None, :] < torch.tensor(lengths)[:, None]
    return {
        "input_ids": torch.where(mask, ids, pad_token_id),
        "attention_mask": mask.long(),
        "labels": torch.randint(0, 3, (len(lengths),), generator=generator),
    }


def make_calibration(model, n_rows=48, seed=0):
    """Rows labelled by the model itself with some noise, as a converged model would see them."""
    generator = np.random.default_rng(seed)
    lengths = sorted(int(n) for n in generator.integers(3, 20, n_rows))
    batch = make_batch(model.config.pad_token_id, lengths, seed)
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
    batch["labels"] = (logits + torch.randn(logits.shape)).argmax(dim=1)

    def batches(stop, batch_size, start=0):
        rows = min(stop, n_rows)
        return [
            {name: tensor[first : min(first + batch_size, rows)] for name, tensor in batch.items()}
            for first in range(start, rows, batch_size)
        ]

    return Calibration(n_rows, LengthHistogram.from_lengths(lengths), batches)


@pytest.fixture(params=list(VARIANTS))
def family(request):
    return request.param


@pytest.fixture
def stock(family):
    return make_stock(family)


@pytest.fixture
def model(stock):
    return to_elastic(stock)


@pytest.fixture
def batch(model):
    return make_batch(model.config.pad_token_id, [20, 13, 7, 3, 1])


@pytest.fixture
def calibration(model):
    return make_calibration(model)


@pytest.fixture
def config_of():
    return stock_config


@pytest.fixture
def stock_of():
    return make_stock


@pytest.fixture
def batch_of():
    return make_batch


@pytest.fixture
def seed(seed):
    """The same for torch."""
    torch.manual_seed(seed)
    return seed
