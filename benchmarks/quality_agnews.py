"""How few FLOPs does AG News need at a drop of one point, by combining strategies?"""

from __future__ import annotations

from typing import Any

import _halvings

TASK = "agnews"
BENCHMARKS = _halvings.declared(TASK, goal=7.0)


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives both figures; rows hold every family at every margin."""
    return _halvings.figures(TASK, range(seed, seed + 3))
