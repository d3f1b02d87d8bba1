"""What an elastic model's token rule, exits and knobs may be; strict types, and free of torch.

The knobs of an operating point are checked like those that are set, against the same rule and
exits: a dial must not turn to what its own model does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trimtab_workers._checks import check_real, check_whole, fail
from trimtab_workers.errors import ModelError

LONGEST_REFERENCE = 1_000_000
WIDEST_EXIT = 65_536
MOST_EXITS_TO_AGREE = 1024
LARGEST_SCALE = 1000.0
NORMALISERS = ("fixed", "live")
EXIT_KINDS = ("linear", "mlp", "attention")
READS = ("first", "mean", "both")
WAYS_TO_LEAVE = ("tau", "patience", "agreements")
SCALES: Mapping[str, str] = {"delta_scale": "threshold", "alpha_sc": "share"}
"""The knob of each kind of token rule."""


def check_rules(path: Path, config: Mapping[str, Any]) -> None:
    """Checks a configuration's token rule, exits and the knobs that are set.

    Args:
        path: The file it was read from, for the message.
        config: It, with one entry of `heads_per_layer` for each layer.

    Raises:
        ModelError: A value is of another type, not finite, out of bounds or of no use beside the
            others, or there is a key that is not known.
    """
    n_layers = len(config["heads_per_layer"])
    if config.get("token_rule") is not None:
        _check_token_rule(path, config["token_rule"], n_layers)
    if config.get("exits") is not None:
        _check_exits(path, config["exits"], n_layers)
    if config.get("knobs") is not None:
        check_knobs(path, "knobs", config["knobs"], config)


def check_knobs(path: Path, name: str, knobs: Any, config: Mapping[str, Any]) -> None:
    """Checks settings of the knobs of a model whose token rule and exits were checked.

    Args:
        path: The file they were read from, for the message.
        name: Where they stand in it, such as `operating_points[0].knobs`.
        knobs: The settings.
        config: The model's configuration.

    Raises:
        ModelError: As `check_rules`.
    """
    _check_keys(path, name, knobs, (*SCALES, *WAYS_TO_LEAVE, "exits"))
    for key, value in knobs.items():
        if key in SCALES:
            _check_scale(path, f"{name}.{key}", value, SCALES[key], config.get("token_rule"))
        else:
            _check_leaving(path, f"{name}.{key}", key, value, config.get("exits"))
    ways = [key for key in WAYS_TO_LEAVE if key in knobs]
    if len(ways) > 1:
        raise ModelError(
            f"{path}: {name} must have at most one of {', '.join(WAYS_TO_LEAVE)}, "
            f"got {', '.join(ways)}"
        )


def _check_token_rule(path: Path, rule: Any, n_layers: int) -> None:
    _check_mapping(path, "token_rule", rule)
    _check_one_of(path, "token_rule.kind", rule.get("kind"), tuple(SCALES.values()))
    if rule["kind"] == "threshold":
        _check_threshold(path, rule)
    else:
        _check_share(path, rule, n_layers)


def _check_threshold(path: Path, rule: Any) -> None:
    _check_keys(path, "token_rule", rule, needed=("kind", "normaliser", "reference_length"))
    _check_one_of(path, "token_rule.normaliser", rule["normaliser"], NORMALISERS)
    key = "token_rule.reference_length"
    check_whole(1, LONGEST_REFERENCE, path, key, rule["reference_length"])


def _check_share(path: Path, rule: Any, n_layers: int) -> None:
    _check_keys(path, "token_rule", rule, needed=("kind", "shares"))
    key, shares = "token_rule.shares", rule["shares"]
    if not isinstance(shares, list) or len(shares) != n_layers:
        raise fail(path, key, f"a list of {n_layers} numbers, one for each layer", shares)
    for layer, share in enumerate(shares):
        check_real(0.0, 1.0, path, f"{key}[{layer}]", share)


def _check_exits(path: Path, exits: Any, n_layers: int) -> None:
    _check_keys(path, "exits", exits, needed=("layers", "kind", "read", "width"))
    # Behind the last layer there is the model's own classifier.
    _check_ascending(path, "exits.layers", exits["layers"], n_layers - 1, "layers before the last")
    _check_one_of(path, "exits.kind", exits["kind"], EXIT_KINDS)
    _check_one_of(path, "exits.read", exits["read"], READS)
    check_whole(1, WIDEST_EXIT, path, "exits.width", exits["width"])
    if exits["kind"] == "attention" and exits["width"] % 2:
        raise fail(path, "exits.width", "even where exits.kind is attention", exits["width"])


def _check_scale(path: Path, key: str, value: Any, kind: str, rule: Any) -> None:
    if rule is None or rule["kind"] != kind:
        raise fail(path, key, f"absent where there is no token_rule of kind {kind}", value)
    check_real(0.0, LARGEST_SCALE, path, key, value)


def _check_leaving(path: Path, name: str, key: str, value: Any, exits: Any) -> None:
    if exits is None:
        raise fail(path, name, "absent where there are no exits", value)
    if key == "exits":
        _check_ascending(path, name, value, len(exits["layers"]), "places in exits.layers")
    else:
        _LEAVING[key](path, name, value)


def _check_ascending(path: Path, key: str, value: Any, end: int, what: str) -> None:
    must = f"a list of at least one of the {end} {what}, ascending and counted from 0"
    if not isinstance(value, list) or not 1 <= len(value) <= end:
        raise fail(path, key, must, value)
    # True is of type bool, so that it does not pass for 1.
    is_whole = all(type(one) is int and 0 <= one < end for one in value)
    if not is_whole or not _ascends(value):
        raise fail(path, key, must, value)


def _ascends(numbers: Sequence[int]) -> bool:
    return all(one < other for one, other in zip(numbers, numbers[1:], strict=False))


def _check_one_of(path: Path, key: str, value: Any, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise fail(path, key, f"one of {', '.join(allowed)}", value)


def _check_keys(
    path: Path, name: str, value: Any, known: Iterable[str] = (), needed: Sequence[str] = ()
) -> None:
    _check_mapping(path, name, value)
    allowed = (*known, *needed)
    strange = sorted(set(value).difference(allowed))
    if strange:
        raise fail(path, name, f"a mapping with no keys but {', '.join(allowed)}", strange)
    missing = [key for key in needed if key not in value]
    if missing:
        raise ModelError(f"{path}: {name} must have {', '.join(missing)}")


def _check_mapping(path: Path, name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise fail(path, name, "a mapping", value)


_LEAVING: Mapping[str, Callable[[Path, str, Any], None]] = {
    # Below every uncertainty, which is at least 0, nobody leaves.
    "tau": partial(check_real, -1.0, 1.0),
    "patience": partial(check_whole, 1, MOST_EXITS_TO_AGREE),
    "agreements": partial(check_whole, 1, MOST_EXITS_TO_AGREE),
}
