"""What does another budget cost, once a study has been searched?

The demo's study is run as its user would, from the command line, Ray and all; then the budget in
the spec is changed to one that no recipe was made at, and the same command runs again. Both times
are wall-clock times of whole commands, from the start of Python to the emitted checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BENCHMARKS = [
    {
        "name": "second-budget",
        "goal": 0.2,
        "unit": "time of the second budget / time of the first",
        "better": "lower",
    }
]
FIRST, SECOND = "flops: 50%", "flops: 35%"


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives the ratio and, as rows, both times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _trimtab(folder, "init", "--template", "demo", "spec.yaml")
        spec = folder / "spec.yaml"
        text = spec.read_text(encoding="utf-8").replace("  seed: 0", f"  seed: {seed}")
        # The first run must not be cut short on a slow machine, or the ratio would flatter.
        text = text.replace("  time: 6 min", "  time: 40 min")
        assert FIRST in text, "the demo's template must have the first budget"
        first_s = _timed_run(folder, spec, text)
        second_s = _timed_run(folder, spec, text.replace(FIRST, SECOND))
    rows = [{"budget": FIRST, "seconds": first_s}, {"budget": SECOND, "seconds": second_s}]
    return {
        "second-budget": {
            "figure": second_s / first_s,
            "baseline": "the same study's first budget, searched from nothing",
            "seeds": [seed],
            "rows": rows,
        }
    }


def _timed_run(folder: Path, spec: Path, text: str) -> float:
    spec.write_text(text, encoding="utf-8")
    started = time.monotonic()
    _trimtab(folder, "run", "spec.yaml", allowed=(0, 3))
    return time.monotonic() - started


def _trimtab(folder: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run([sys.executable, "-m", "trimtab", *arguments], cwd=folder, check=False)
    if done.returncode not in allowed:
        raise RuntimeError(f"trimtab {' '.join(arguments)} ended with {done.returncode}")
