"""What the numbers and words of a model's configuration may be: strict types, finite, bounded.

The bounds are far beyond any encoder that is built; they keep a mistyped or hostile configuration
from asking for more memory than there is before the weights can contradict it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trimtab_strategies.dialects import Dialect
from trimtab_workers._checks import check_real, check_whole, fail
from trimtab_workers._rules import check_knobs, check_rules
from trimtab_workers.errors import ModelError

MOST_LAYERS = 1024
MOST_FILTERS = 1_000_000
WHOLE: Mapping[str, tuple[int, int]] = {
    "bos_token_id": (0, 10_000_000),
    "chunk_size_feed_forward": (0, 1_000_000),
    "embedding_size": (1, 65_536),
    "eos_token_id": (0, 10_000_000),
    "head_dim": (1, 65_536),
    "hidden_size": (1, 65_536),
    "intermediate_size": (1, MOST_FILTERS),
    "max_position_embeddings": (1, 1_000_000),
    "num_attention_heads": (1, 1024),
    "num_hidden_layers": (1, MOST_LAYERS),
    "num_labels": (1, 100_000),
    "pad_token_id": (0, 10_000_000),
    "type_vocab_size": (0, 1024),
    "vocab_size": (1, 10_000_000),
}
REAL: Mapping[str, tuple[float, float]] = {
    "attention_probs_dropout_prob": (0, 1),
    "classifier_dropout": (0, 1),
    "hidden_dropout_prob": (0, 1),
    "initializer_range": (0, 1000),
    "layer_norm_eps": (0, 1),
}
SWITCHES = frozenset(
    {
        "dropout_after_attention",
        "dropout_before_head",
        "positions_skip_padding",
        "sinusoidal_pos_embds",
        "tie_word_embeddings",
    }
)
WORDS = frozenset({"family", "model_type", "problem_type"})
ACTIVATIONS = frozenset(
    {
        "gelu",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_pytorch_tanh",
        "leaky_relu",
        "linear",
        "mish",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "sigmoid",
        "silu",
        "swish",
        "tanh",
    }
)
"""Those of transformers that have no weights of their own."""
MOST_MS = 1e9
LAYERS: Mapping[str, int] = {"heads_per_layer": 1024, "filters_per_layer": MOST_FILTERS}


def check_bounds(path: Path, config: Mapping[str, Any], dialect: Dialect | None = None) -> None:
    """Checks every value of a sanitised configuration that is not null.

    Args:
        path: The file it was read from, for the message.
        config: What is kept of it.
        dialect: How the family names its settings; None for BERT's names and our own.

    Raises:
        ModelError: A value is of another type, not finite, or out of bounds.
    """
    for setting, check in _CHECKS.items():
        key = setting if dialect is None else dialect.name_of(setting)
        if config.get(key) is not None:
            check(path, key, config[key])
    pad, vocabulary = config.get("pad_token_id"), config.get("vocab_size")
    if pad is not None and vocabulary is not None and pad >= vocabulary:
        raise ModelError(
            f"{path}: pad_token_id must be less than vocab_size, got {pad} and {vocabulary}"
        )


def check_own(path: Path, config: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    """Checks the configuration of an elastic model of ours.

    Raises:
        ModelError: A needed key is missing, or a value is of another type, not finite, out of
            bounds, no plain name or of no use beside the others.
    """
    missing = [key for key in needed if config.get(key) is None]
    if missing:
        raise ModelError(f"{path}: an elastic model's config must have {', '.join(missing)}")
    check_bounds(path, config)
    if len({len(config[key]) for key in LAYERS if config.get(key) is not None}) > 1:
        raise ModelError(f"{path}: {' and '.join(LAYERS)} must have an entry for each layer")
    _check_names(path, config.get("id2label"))
    check_rules(path, config)
    for number, point in enumerate(config.get("operating_points") or ()):
        _check_point(path, f"operating_points[{number}]", point, config)


def _switch(path: Path, key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise fail(path, key, "true or false", value)


def _word(path: Path, key: str, value: Any) -> None:
    if not isinstance(value, str) or "/" in value or "\\" in value:
        raise fail(path, key, "a plain name", value)


def _words(path: Path, key: str, value: Any) -> None:
    if not isinstance(value, list):
        raise fail(path, key, "a list of plain names", value)
    for one in value:
        _word(path, key, one)


def _layers(most: int, path: Path, key: str, value: Any) -> None:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_LAYERS:
        raise fail(path, key, f"a list of 1 to {MOST_LAYERS} whole numbers", value)
    for one in value:
        check_whole(0, most, path, key, one)


def _points(path: Path, key: str, value: Any) -> None:
    if not isinstance(value, list):
        raise fail(path, key, "a list of operating points", value)


def _check_point(path: Path, name: str, point: Any, config: Mapping[str, Any]) -> None:
    if not isinstance(point, dict):
        raise fail(path, name, "a mapping", point)
    for key, low in (("flops_ratio", 0.0), ("drop", -10.0), ("metric", -10.0)):
        check_real(low, 10.0, path, f"{name}.{key}", point.get(key))
    if point.get("latency_ms") is not None:
        check_real(0.0, MOST_MS, path, f"{name}.latency_ms", point["latency_ms"])
    check_knobs(path, f"{name}.knobs", point.get("knobs", {}), config)
    for key, value in point.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise fail(path, f"{name}.{key}", "finite", value)


def _check_names(path: Path, names: Any) -> None:
    if names is None:
        return
    ids = list(names) if isinstance(names, dict) else None
    if ids is None or sorted(ids) != sorted(map(str, range(len(ids)))):
        raise fail(path, "id2label", "the ids from 0 on with a name each", names)
    for name in names.values():
        if not isinstance(name, str):
            raise fail(path, "id2label", "the ids from 0 on with a name each", names)


def _activation(path: Path, key: str, value: Any) -> None:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise fail(path, key, f"one of {', '.join(sorted(ACTIVATIONS))}", value)


_Check = Callable[[Path, str, Any], None]
_CHECKS: Mapping[str, _Check] = {
    **{key: partial(check_whole, *bounds) for key, bounds in WHOLE.items()},
    **{key: partial(check_real, *bounds) for key, bounds in REAL.items()},
    **{key: partial(_layers, most) for key, most in LAYERS.items()},
    **dict.fromkeys(sorted(SWITCHES), _switch),
    **dict.fromkeys(sorted(WORDS), _word),
    **dict.fromkeys(("hidden_act", "activation", "head_activation"), _activation),
    "architectures": _words,
    "operating_points": _points,
}
