"""The two calls into transformers that load from a folder, with every safeguard switched on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trimtab_workers._quiet import quiet_transformers
from trimtab_workers._words import listed, one_line
from trimtab_workers.errors import ModelError

# Tensors that a fresh head brings along: a checkpoint of an encoder lacks them
FRESH = re.compile(r"(pre_)?classifier\..+|bert\.pooler\..+")
HEAD = re.compile(r"(pre_)?classifier\..+")
# Tensors of the heads of pre-training, and buffers that old releases saved
LEFT_OVER = re.compile(
    r"(cls|lm_head|qa_outputs|(roberta\.)?pooler"  # of BERT and RoBERTa
    r"|vocab_(transform|layer_norm|projector)"  # of DistilBERT
    r"|discriminator_predictions|generator_(predictions|lm_head))\..+"  # of ELECTRA
)
BUFFERS = re.compile(r"(.+\.)?position_ids")


def load_classifier(
    path: Path,
    config: Mapping[str, Any],
    names: Mapping[int, str],
    *,
    fresh_head: bool,
    seed: int,
) -> Any:
    """Loads the stock classifier and accounts for every tensor.

    Args:
        path: A checked model folder.
        config: Its sanitised config; the file itself is not read again.
        names: The name of each class id.
        fresh_head: Whether the head's tensors are expected to be missing.
        seed: Of the fresh head's weights; the global random state is left as it was.

    Raises:
        ModelError: A tensor is missing, left over, of another shape or not finite.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                path,
                config=_stock_config(config, names),
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report names them, and they are refused
            )
        except Exception as error:  # shapes, activations, torn files: each has its own type
            raise ModelError(f"{path}: the model cannot be loaded ({one_line(error)})") from error
    if fresh_head:
        _refuse_undeclared_head(path, set(model.state_dict()) - set(report["missing_keys"]))
    _account_for(path, report, fresh_head)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"{path}: weights must be finite, but {name} is not")
    return model.eval()


def load_fast_tokenizer(path: Path, config: Mapping[str, Any]) -> Any:
    """Loads the tokenizer and checks that batches can be made with it.

    Raises:
        ModelError: Its files are not well-formed, or it cannot pad.
    """
    from transformers import AutoTokenizer

    with quiet_transformers(), tokenizer_faults(path, "be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(
            path,
            config=_stock_config(config, {}),
            trust_remote_code=False,
            local_files_only=True,
        )
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise ModelError(f"{path}: the tokenizer must be a fast one that has a padding token")
    return tokenizer


@contextmanager
def tokenizer_faults(path: object, what: str) -> Iterator[None]:
    """Turns whatever a broken tokenizer raises into a `ModelError` of one line.

    Its core is compiled, and where that gives up, what it raises is no `Exception`.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ModelError(f"{path}: the tokenizer cannot {what} ({one_line(error)})") from error


def _stock_config(config: Mapping[str, Any], names: Mapping[int, str]) -> Any:
    from transformers import AutoConfig

    stated = {key: value for key, value in config.items() if key not in _ABOUT_LABELS}
    if names:
        stated["id2label"] = dict(names)
        stated["label2id"] = {name: i for i, name in names.items()}
    return AutoConfig.for_model(**stated)


_ABOUT_LABELS = frozenset({"id2label", "label2id", "num_labels"})


def _refuse_undeclared_head(path: Path, found: set[str]) -> None:
    """A head of another task would pass for a fresh one, and one for this task would be lost."""
    heads = sorted(name for name in found if HEAD.fullmatch(name))
    if heads:
        raise ModelError(
            f"{path}: the config must name a …ForSequenceClassification under architectures if the "
            f"weights have a head, but it does not, and they have {heads[0]}; name it there, or "
            "take the head out"
        )


def _account_for(path: Path, report: Mapping[str, Iterable[str]], fresh_head: bool) -> None:
    missing = sorted(report["missing_keys"])
    extra = [key for key in sorted(report["unexpected_keys"]) if not BUFFERS.fullmatch(key)]
    if fresh_head:
        missing = [key for key in missing if not FRESH.fullmatch(key)]
        extra = [key for key in extra if not LEFT_OVER.fullmatch(key)]
    wrong = [
        f"{what} {listed(keys, most=3)}"
        for what, keys in (
            ("missing", missing),
            ("left over", extra),
            ("of another shape", sorted(map(str, report["mismatched_keys"]))),
        )
        if keys
    ]
    if wrong:
        raise ModelError(
            f"{path}: every tensor must fit the config, but some are {'; '.join(wrong)}; "
            "the folder is damaged or its config.json is another model's"
        )
