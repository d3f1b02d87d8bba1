"""How few FLOPs does BBC News, up to 128 tokens, need at a drop of one point in combinations?"""

from __future__ import annotations

from typing import Any

import _halvings

TASK = "bbc-128"
BENCHMARKS = _halvings.declared(TASK, goal=5.0)


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives both figures; rows hold every family at every margin."""
    return _halvings.figures(TASK, range(seed, seed + 3))
