"""How much less do recipes of our sampler cost than uniform draws, to most of the hypervolume?

Trials of ``search-efficiency`` as it was at first (TREC with the demo's encoder after 6 epochs on
500 rows; studies of 24 trials and plain loops of 54 to 128; decision 47) lie in
``benchmarks/recorded/``, so that a sampler can be tried in a minute: a proposal stands for the
nearest recorded recipe of the same strategies that was not tried yet, and a step costs what it took
when it was recorded, once. What is tuned on these should be tried elsewhere.
"""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path
from typing import Any

import _nearest

BENCHMARKS = [
    {
        "name": "search-replayed",
        "goal": 1.2,
        "unit": "times the compute of our search, by random recipes in our own engine, to 95 % of "
        "the best known hypervolume (median of 21 replays of recorded trials)",
        "better": "higher",
    }
]
RECORDED = Path(__file__).resolve().parent / "recorded"
NAMES = ("fisher", "ltp", "acc", "early_exit")
N_REPLAYS, ENOUGH = 21, 0.95


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Replays what was recorded with either way of proposing; a row for each pair."""
    files = sorted(RECORDED.glob("search-efficiency-*.json.gz"))
    rows = _nearest.replays([world(file) for file in files], N_REPLAYS, ENOUGH)
    return {
        "search-replayed": {
            "figure": statistics.median(row["ratio"] for row in rows),
            "baseline": "uniform draws in the same engine, replayed from the same trials",
            "seeds": list(range(N_REPLAYS)),
            "rows": rows,
        }
    }


def world(file: Path) -> _nearest.Recorded:
    """Reads the trials of one seed: their recipes, their drops and costs, what their steps took."""
    from trimtab.controller._space import RecipeSpace
    from trimtab.selection import Limits
    from trimtab_strategies.recipe import from_plain

    found = json.loads(gzip.decompress(file.read_bytes()))
    space = RecipeSpace({name: {} for name in NAMES}, found["n_train"])
    kept = [
        _nearest.Kept(
            from_plain(trial["recipe"]), tuple(map(tuple, trial["pairs"])), trial["seconds"]
        )
        for trial in found["trials"]
    ]
    return _nearest.Recorded(space, Limits(**found["limits"]), kept)
