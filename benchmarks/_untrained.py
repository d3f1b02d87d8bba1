"""Models that nobody trained, for benchmarks of speed: a time does not ask who is right.

Thresholds rise in a straight line; exits have random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from _paragraphs import Batch

EXIT_WIDTH = 128
NEAR_ENOUGH = 0.003


def with_thresholds(dense: Any) -> Any:
    import torch

    from trimtab_strategies.ltp._thresholds import linear_thresholds

    rule = {"kind": "threshold", "normaliser": "fixed", "reference_length": 128}
    model = copied(dense, token_rule=rule)
    model.token_rule.base.copy_(torch.tensor(linear_thresholds(0.01, len(model.layers))))
    return model


def with_exits(
    model: Any,
    batches: Sequence[Batch],
    kind: str = "mlp",
    read: str = "mean",
    width: int = EXIT_WIDTH,
) -> Any:
    """Copies a model, with a random exit behind every layer but the last, centred and scaled.

    Some samples are then sure and others are not at every exit.
    """
    import torch

    layers = list(range(model.config.num_hidden_layers - 1))
    settings = {"layers": layers, "kind": kind, "read": read, "width": width}
    torch.manual_seed(0)
    child = copied(model, exits=settings)
    said = recorded(child, batches).exit_logits
    for place, head in enumerate(child.exits):
        centre = said[:, place].mean(axis=0)
        factor = _middling_factor(said[:, place] - centre)
        with torch.no_grad():
            head.out.bias -= torch.from_numpy(centre).to(head.out.bias)
            head.out.weight *= factor
            head.out.bias *= factor
    return child


def _middling_factor(logits: Any) -> float:
    """Finds what to multiply logits by so that half of the samples are surer than one half."""
    from trimtab_strategies.replay import uncertainty

    def median_at(factor: float) -> float:
        return float(np.median(uncertainty(logits * factor)))

    return bisected(median_at, 0.0, 1e4, 0.5)


def copied(model: Any, **settings: Any) -> Any:
    """Copies a model, with a token rule or exits beside what it has, and in eval mode."""
    from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

    config = TrimtabConfig.from_dict({**model.config.to_dict(), **settings})
    child = TrimtabForSequenceClassification(config)
    loaded = child.load_state_dict(model.state_dict(), strict=False)  # what is new stays as drawn
    assert not loaded.unexpected_keys
    child.eval().keep_layouts()
    return child


def bisected(value_at: Callable[[float], float], high: float, low: float, wanted: float) -> float:
    """Finds where a falling function is near a value; ``high`` and ``low`` are where it is so."""
    for _ in range(25):
        middle = (high + low) / 2
        value = value_at(middle)
        if abs(value - wanted) < NEAR_ENOUGH:
            break
        high, low = (middle, low) if value > wanted else (high, middle)
    return middle


def recorded(model: Any, batches: Sequence[Batch]) -> Any:
    from trimtab_strategies.records import Records

    traces = [model.trace(**batch) for batch in batches]

    def joined(part: str, kind: type) -> Any:
        return np.concatenate([getattr(trace, part).numpy().astype(kind) for trace in traces])

    lengths = joined("lengths", np.int64)
    return Records(
        lengths,
        joined("kept", np.int64),
        tuple((model.config.exits or {"layers": ()})["layers"]),
        joined("exit_logits", np.float64),
        joined("logits", np.float64),
        np.zeros_like(lengths),
    )
