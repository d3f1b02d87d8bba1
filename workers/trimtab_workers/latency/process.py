"""Timing in a fresh process: what a checkpoint's user will see, with nothing left from before."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from trimtab_workers.latency.bench import BenchResult, BenchSettings
from trimtab_workers.latency.requests import Requests

LOADING_S = 600.0
"""What the other process may take beside timing, and where requests are slow (``pairs.MOST_S``)."""


class BenchError(RuntimeError):
    """Timing in a fresh process failed."""


def measure_in_fresh_process(
    ours: Path, baseline: Path, requests: Requests, settings: BenchSettings
) -> BenchResult:
    """Has another process load both folders of elastic models and time them.

    It is handed token ids and no text.

    Raises:
        BenchError: with what the other process said.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-latency-") as folder:
        arrays, plain = Path(folder) / "requests.npz", Path(folder) / "settings.json"
        requests.save(arrays)
        plain.write_text(json.dumps(settings.to_plain()), encoding="utf-8")
        said = _run([str(ours), str(baseline), str(arrays), str(plain)], settings.limit_s)
    try:
        return BenchResult.from_plain(json.loads(said))
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(
            f"the process that timed {ours} must answer with its latency, but said {said[:200]!r}"
        ) from error


def _run(arguments: list[str], limit_s: float) -> str:
    # -P: a file of the user's in the working directory must not pass for a module.
    command = [sys.executable, "-P", "-m", "trimtab_workers.latency", *arguments]
    patience_s = LOADING_S + 10 * limit_s
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=patience_s
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(
            f"timing {arguments[0]} in a fresh process must end within {patience_s:.0f} s, "
            "but did not"
        ) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BenchError(f"{arguments[0]} could not be timed in a fresh process: {said[0]}")
    return done.stdout
