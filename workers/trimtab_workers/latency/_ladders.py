"""Ladders: small models with random weights, whose layers have all widths in turn.

Two of them take turns, since together they have about the weights of a dense model: what a part
takes depends on what the processor's cache holds of it. They differ in what stands last, and in
the rule that tokens go by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabConfig as Config

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of the heads and filters that the dense model has; one head alone is measured as well."""
EACH_KEPT = 15 / 16
"""Share of its tokens that a text keeps in a ladder's layer: they must go, and not run out."""
WORDS = 4096
RULES = ("ltp", "acc")


@dataclass(frozen=True)
class Ladder:
    rule: str
    model: TrimtabForSequenceClassification


def ladders(config: Config, device: torch.device) -> Iterator[tuple[Ladder, Ladder]]:
    n_layers = len(SHARES) + 1
    heads = _steps(max(config.heads_per_layer), 1, n_layers)
    most = max(config.filters_per_layer)
    filters = _steps(most, max(1, most // 16), n_layers)
    turned = [*filters[2:-1], *filters[:2], filters[-1]]
    widest_last = _ladder(config, device, heads[::-1], filters[::-1])
    yield widest_last, _ladder(config, device, heads, turned)
    by_threshold, by_share = (_ladder(config, device, heads, turned, rule) for rule in RULES)
    yield by_threshold, by_share


def _steps(most: int, least: int, n_layers: int) -> list[int]:
    """Gives widths from all to none, with ``least`` as the least beside none."""
    steps = {round(most * share) for share in SHARES} | {least}
    return [*sorted(steps, reverse=True), *[0] * n_layers][:n_layers]


def _ladder(
    config: Config,
    device: torch.device,
    heads: Sequence[int],
    filters: Sequence[int],
    rule: str = "none",
) -> Ladder:
    settings: dict[str, dict[str, Any] | None] = {
        "none": None,
        "ltp": {"kind": "threshold", "normaliser": "fixed", "reference_length": 128},
        "acc": {"kind": "share", "shares": [EACH_KEPT] * len(heads)},
    }
    return Ladder(rule, random_model(config, device, heads, filters, settings[rule]))


def random_model(
    config: Config,
    device: torch.device,
    heads: Sequence[int],
    filters: Sequence[int],
    token_rule: Mapping[str, Any] | None = None,
) -> TrimtabForSequenceClassification:
    changes = {
        "heads_per_layer": list(heads),
        "filters_per_layer": list(filters),
        "vocab_size": min(WORDS, config.vocab_size),  # which words are read is all the same
        "token_rule": token_rule,
        "exits": None,
        "knobs": {},
    }
    made = TrimtabConfig.from_dict({**config.to_dict(), **changes})
    model: TrimtabForSequenceClassification = TrimtabForSequenceClassification(made)
    model.to(device).eval()
    if token_rule is not None and token_rule["kind"] == "threshold":
        _drop_evenly(model, config.max_position_embeddings)
    model.keep_layouts()
    return model


def _drop_evenly(model: TrimtabForSequenceClassification, longest: int) -> None:
    """Has a rule decide as it does, and then lets every 16th token go whatever it decided."""
    rule: Any = model.token_rule
    stays = torch.arange(longest, device=model.device) % 16 != 1
    decided = rule.keeps

    def keeps(*arguments: Any) -> torch.Tensor:
        kept: torch.Tensor = decided(*arguments)
        return kept & stays[: kept.shape[1]]

    rule.keeps = keeps
