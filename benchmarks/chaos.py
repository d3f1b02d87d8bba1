"""Does `kill -9` of workers and controllers lose, double or block anything?

Real studies on Ray, with a tiny model: 300 workers are killed in the middle of their jobs, and 50
controllers, whose command is then given again. Trials and jobs whose worker was killed twice are
spared the third time, after which they would be given up as the cause. What counts against it:

lost      results that were acknowledged and are not in the database
doubled   results recorded twice, finished trials that ran again
outlived  workers that outlived their controller for half a minute
stuck     trials that did not end, studies that did not finish or kept their lease
broken    what the invariant checker finds at the end
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

from _chaos import Chaos, load_lab

N_STUDIES, FIRST_TRIALS = 5, 30
TRY = "N+M: kills of so many workers and controllers, 12+2 say"
COUNTED = ("lost", "doubled", "outlived", "stuck", "broken_invariants")

BENCHMARKS = [
    {
        "name": "chaos",
        "goal": 0.0,
        "unit": "results or trials lost, doubled or stuck in 300 worker and 50 controller kills",
        "better": "lower",
    }
]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Kills in several studies, one after the other, and adds up what went wrong."""
    worker_kills, controller_kills = map(int, os.environ.get("TRIMTAB_TRY", "300+50").split("+"))
    module, rows = load_lab(), []
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "files").mkdir()
        files = module.write_files(Path(name) / "files")
        for number in range(N_STUDIES):
            (Path(name) / f"{number}").mkdir()
            lab = module.Lab(Path(name) / f"{number}", files)
            chaos = Chaos(lab, random.Random(f"{seed} {number}"), FIRST_TRIALS)
            share = [_share(whole, number) for whole in (worker_kills, controller_kills)]
            rows.append({"study": number, **chaos.run(*share)})
            print(rows[-1], flush=True)
    return {
        "chaos": {
            "figure": sum(row[what] for row in rows for what in COUNTED),
            "baseline": "none: an absolute bound",
            "seeds": [seed],
            "rows": rows,
        }
    }


def _share(whole: int, number: int) -> int:
    return (whole + number) // N_STUDIES
