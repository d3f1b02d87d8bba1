"""Reads a model's `config.json` without trusting it.

Only keys that the built families need are kept; a key that could make code run, fetch something
or change what the numbers mean is refused rather than dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trimtab_strategies.dialects import DIALECTS, Dialect
from trimtab_workers._bounds import check_bounds, check_own
from trimtab_workers.errors import ModelError

FAMILIES = tuple(DIALECTS)
ELASTIC = "trimtab"
ATTENTION = ("eager", "sdpa")
LARGEST_CONFIG = 1 << 20
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
SHARED = (
    *SIZES,
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "hidden_act",
    "hidden_dropout_prob",
)
"""Settings that every family has, under BERT's names for them."""
KEPT = frozenset(
    {
        "architectures",
        "bos_token_id",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "label2id",
        "layer_norm_eps",
        "model_type",
        "num_labels",
        "pad_token_id",
        "problem_type",
        "tie_word_embeddings",
        "type_vocab_size",
    }
)
# what has to hold of keys that are then left out, or kept
ONLY_WITH: Mapping[str, tuple[Any, str]] = {
    "quantization_config": (None, "give the model before it was quantised"),
    "is_decoder": (False, "only encoders are built"),
    "add_cross_attention": (False, "only encoders are built"),
    "position_embedding_type": ("absolute", "only absolute positions are built"),
    "problem_type": ("single_label_classification", "only classes that exclude each other are"),
}
LEAST: Mapping[str, int] = {"pad_token_id": 0, "type_vocab_size": 1, "num_labels": 1}
NAMES_ARE_FREE = frozenset({"id2label", "label2id"})
OWN_SIZES = (
    "vocab_size",
    "hidden_size",
    "head_dim",
    "heads_per_layer",
    "filters_per_layer",
    "max_position_embeddings",
    "pad_token_id",
)
STANDARD = (
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "id2label",
    "label2id",
    "problem_type",
)


def read_config(folder: Path) -> dict[str, Any]:
    """Reads and sanitises the `config.json` of a model folder.

    Returns:
        The keys that the family needs, as they stand in the file.

    Raises:
        ModelError: There is no such file, it is not well-formed, or it asks for what is not built
            or not safe.
    """
    path = folder / "config.json"
    config = read_json(path)
    for key, value in _walk(config):
        _refuse_code(path, key, value)
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise ModelError(
            f"{path}: model_type must be one of the families that are built "
            f"({', '.join(FAMILIES)}), got {model_type!r}"
        )
    for key, (allowed, reason) in ONLY_WITH.items():
        if config.get(key) not in (None, allowed):
            raise ModelError(f"{path}: {key} must be {json.dumps(allowed)} or absent; {reason}")
    dialect = DIALECTS[model_type]
    kept = {key: value for key, value in config.items() if key in _keys(dialect)}
    _check_sizes(path, kept, dialect)
    check_bounds(path, kept, dialect)
    _check_names(path, kept)
    return kept


def read_elastic_config(folder: Path, declared: Iterable[str]) -> dict[str, Any]:
    """Reads and sanitises the `config.json` of an elastic model of ours.

    Args:
        folder: A folder that we wrote, as far as it says.
        declared: The keys that our own configuration class takes.

    Returns:
        The declared keys and harmless standard ones, as they stand in the file. `auto_map`
        is left out: it stands in every checkpoint, for those who lack our package.

    Raises:
        ModelError: There is no such file, it is not well-formed, or it asks for what is not safe.
    """
    path = folder / "config.json"
    config = read_json(path)
    for key, value in _walk(config):
        if key != "auto_map":
            _refuse_code(path, key, value)
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder}: the model must be whole, but there is an adapter; remove it")
    if config.get("model_type") != ELASTIC:
        raise ModelError(
            f"{path}: model_type must be {ELASTIC!r}, got {config.get('model_type')!r}; name a "
            "folder that trimtab wrote"
        )
    if config.get("quantization_config") is not None:
        raise ModelError(
            f"{path}: quantization_config must be absent, as trimtab writes no quantised models"
        )
    kept = {key: config[key] for key in {*declared, *STANDARD} if key in config}
    check_own(path, kept, OWN_SIZES)
    return kept


def read_json(path: Path) -> dict[str, Any]:
    """Reads a small JSON object, refusing what is not one."""
    if not path.is_file():
        raise ModelError(f"{path}: a model folder must have this file")
    if path.stat().st_size > LARGEST_CONFIG:
        raise ModelError(f"{path}: the file must have at most {LARGEST_CONFIG} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the file must be well-formed JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: the file must hold one JSON object")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number must be finite, got {text[:40]}")
    return number


def refuse_auto_map(path: Path, config: Mapping[str, Any]) -> None:
    """Refuses a file that names Python code to load."""
    for key, value in _walk(config):
        if key == "auto_map":
            raise ModelError(
                f"{path}: auto_map must be absent, as it names code to run ({value!r}); only "
                f"stock models of the families {', '.join(FAMILIES)} are loaded"
            )


def _refuse_code(path: Path, key: str, value: Any) -> None:
    if key == "auto_map":
        refuse_auto_map(path, {key: value})
    if "attn_implementation" not in key and "experts_implementation" not in key:
        return
    for name in value.values() if isinstance(value, dict) else [value]:
        # true and false belong to a switch that old releases saved
        if name not in (None, True, False, *ATTENTION):
            raise ModelError(
                f"{path}: {key} must be one of {', '.join(ATTENTION)} or absent, got {name!r}; "
                "kernels from elsewhere are not loaded"
            )


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _keys(dialect: Dialect) -> frozenset[str]:
    own = (*dialect.own_sizes, *dialect.own_settings, *map(dialect.name_of, SHARED))
    return KEPT.union(own) - dialect.lacks


def _check_sizes(path: Path, config: Mapping[str, Any], dialect: Dialect) -> None:
    needed = dict.fromkeys((*map(dialect.name_of, SIZES), *dialect.own_sizes), 1)
    given = {key: least for key, least in LEAST.items() if config.get(key) is not None}
    for key, least in (needed | given).items():
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ModelError(f"{path}: {key} must be a whole number from {least} on, got {value!r}")
    width, heads = map(dialect.name_of, ("hidden_size", "num_attention_heads"))
    if config[width] % config[heads]:
        raise ModelError(
            f"{path}: {width} must be a multiple of {heads}, got {config[width]} and "
            f"{config[heads]}"
        )


def _check_names(path: Path, config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if key in NAMES_ARE_FREE:
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and ("/" in text or "\\" in text):
                raise ModelError(f"{path}: {key} must be a plain name, got {text!r}")
