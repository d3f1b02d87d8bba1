"""Times an elastic model against its baseline; see ``process.py`` for who calls this.

python -m trimtab_workers.latency OURS_FOLDER BASELINE_FOLDER REQUESTS.npz SETTINGS.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Prints the result as JSON, and nothing else on stdout."""
    if len(arguments) != 4:
        sys.exit("the arguments must be OURS_FOLDER BASELINE_FOLDER REQUESTS.npz SETTINGS.json")
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print, also those in C, goes to stderr
    text = json.dumps(_timed(*map(Path, arguments)))
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        stream.write(text + "\n")


def _timed(ours: Path, baseline: Path, requests: Path, settings: Path) -> object:
    from trimtab_workers.devices import pick_device
    from trimtab_workers.jobs._bench import load_to_serve
    from trimtab_workers.latency.bench import BenchSettings, bench
    from trimtab_workers.latency.requests import Requests

    how = BenchSettings.from_plain(json.loads(settings.read_text(encoding="utf-8")))
    device = pick_device(how.device)
    model, dense = load_to_serve(ours, device), load_to_serve(baseline, device)
    (result,) = bench(dense, [model], Requests.load(requests), how)
    return result.to_plain()


if __name__ == "__main__":
    main(sys.argv[1:])
