"""What the card says of token rules, from a configuration alone."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.emission._card import _rules


@pytest.mark.parametrize(
    ("heads", "knobs", "said"),
    [
        (2, {}, "3.03 times as fast at alpha_sc = 1;"),  # equation 7, 12 layers, shares of 0.8
        (2, {"alpha_sc": 1.25}, "1.00 times as fast at alpha_sc = 1.25;"),
        (0, {}, "1.00 times as fast at alpha_sc = 1;"),  # nothing goes in layers without heads
    ],
)
def test_the_published_estimate_stands_beside_what_was_counted(
    heads: int, knobs: dict[str, Any], said: str
) -> None:
    config = {
        "token_rule": {"kind": "share", "shares": [0.8] * 12},
        "heads_per_layer": [heads] * 12,
        "exits": None,
        "knobs": knobs,
    }
    assert said in _rules(config)


def test_thresholds_have_no_published_estimate() -> None:
    config = {"token_rule": {"kind": "threshold"}, "exits": {"layers": [0, 2]}, "knobs": {}}
    assert _rules(config) == (
        "Each layer lets go of the tokens that receive less attention than a threshold. "
        "Samples may leave behind layer 1, 3."
    )
