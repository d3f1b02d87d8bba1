"""Does the memory of the Fisher pipeline stay flat when it sees more samples?

A model of MiniLM's shape with random weights is pruned to 45 % with 512 to 4,096 samples of 32
random tokens, each number in a process of its own. Counted is what the process's memory grows by
from when model and data are loaded to its peak, less the hidden states of teacher and student at
one layer boundary, which the pipeline has to hold for the rows that it tunes with. glibc is told to
give freed memory back at once: what it keeps otherwise depends on the order of the allocations.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

BENCHMARKS = [
    {
        "name": "fisher-memory",
        "goal": 0.1,
        "unit": "growth of peak memory from 512 to 4,096 samples, as a share",
        "better": "lower",
    }
]
SIZES = (512, 1024, 2048, 4096)
LENGTH, SHARE = 32, 0.45
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
MEASURE = """
import json, resource, sys, threading
import psutil, torch
from transformers import BertConfig, BertForSequenceClassification
from trimtab_strategies import registry
from trimtab_strategies.base import Calibration, default_choices
from trimtab_strategies.cost import LengthHistogram
from trimtab_strategies.families import to_elastic
from trimtab_strategies.fisher import _tuning

size, length, share, seed = (float(word) for word in sys.argv[1:])
size, length = int(size), int(length)
torch.manual_seed(int(seed))
shape = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
model = to_elastic(BertForSequenceClassification(BertConfig(num_labels=4, **shape)))
ids = torch.randint(1000, 20000, (size, length))

def batches(stop, batch_size, start=0):
    rows = ids[start:stop].split(batch_size)
    return [dict(input_ids=r, attention_mask=torch.ones_like(r), labels=r[:, 0] % 4) for r in rows]

tuned_tokens = []
tune = _tuning.tune
from trimtab_strategies.fisher import _pipeline
def noted(teacher, masks, rows, *rest):
    tuned_tokens.append(sum(row["input_ids"].numel() for row in rows))
    return tune(teacher, masks, rows, *rest)
_pipeline.tune = noted
fisher = registry.get("fisher")
calibration = Calibration(size, LengthHistogram({length: size}), batches)
# A first, small run loads the libraries' own memory, whatever the size.
choices = {**default_choices(fisher), "calibration": 64}
list(fisher.apply(model, calibration, choices, None, [share], lambda *a: None))
before = psutil.Process().memory_info().rss
choices["calibration"] = size
list(fisher.apply(model, calibration, choices, None, [share], lambda *a: None))
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
states = 2 * 4 * 384 * tuned_tokens[-1]
print(json.dumps({"samples": size, "peak_bytes": peak - before, "states_bytes": states,
                  "tuned_tokens": tuned_tokens[-1]}))
"""


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the growth and, as rows, what was measured at each size."""
    rows = [_measure(size, seed) for size in SIZES]
    beyond = [row["peak_bytes"] - row["states_bytes"] for row in rows]
    return {
        "fisher-memory": {
            "figure": beyond[-1] / beyond[0] - 1,
            "baseline": "the same pipeline with 512 samples",
            "seeds": [seed],
            "rows": rows,
        }
    }


def _measure(size: int, seed: int) -> dict[str, Any]:
    words = [str(word) for word in (size, LENGTH, SHARE, seed)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **GIVE_BACK},
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
