"""Times a checkpoint once more, in a process that knows nothing of the study it came from.

    python benchmarks/_timed_again.py QUESTION.json

The question has ``model`` (a checkpoint, or the folder of an elastic model), ``beside`` (another
one to take turns with, or null), ``statistic``, ``batch_size``, ``tokens`` (of all texts, in order)
and ``seconds``. What is printed has ``value``, ``low`` and ``high`` in ms, or as a ratio where
there is another model. None of the product's timing is used here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEXTS_IN_A_ROW = 16
LEAST_ROUNDS, DRAWS = 3, 400
QUANTILES = {"p50": 0.5, "p95": 0.95}
PATIENCE_S = 300


def ask(folder: Path, **question: Any) -> dict[str, Any]:
    """Has a fresh process time a model on one thread, and gives what it found."""
    file = folder / "question.json"
    file.write_text(json.dumps(question), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, __file__, str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise RuntimeError(f"{question['model']} could not be timed again: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Times the model, or both in turns, and sums up."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    folders = [question["model"], *([question["beside"]] if question["beside"] else [])]
    models = [_loaded(Path(folder)) for folder in folders]
    requests = _requests(question["tokens"], question["batch_size"])
    with torch.inference_mode():
        _round(models, requests[:TEXTS_IN_A_ROW], 0)
        rounds, began = list[Any](), time.perf_counter()
        while len(rounds) < LEAST_ROUNDS or time.perf_counter() - began < question["seconds"]:
            rounds.append(_round(models, requests, len(rounds)))
    times = np.array(rounds).transpose(1, 2, 0)  # models, requests, rounds
    n_requests, n_rounds = times.shape[1:]
    summed = _summed_up(times, question["statistic"])
    return {**summed, "n_requests": n_requests, "n_rounds": n_rounds}


def _loaded(folder: Path) -> Any:
    """Loads a checkpoint as its user does; the dense model is in the same form."""
    import trimtab
    from trimtab_workers.jobs import load_elastic

    if (folder / "trimtab.json").is_file():
        return trimtab.load(folder)
    model = load_elastic(folder).eval()
    model.keep_layouts()
    return model


def _requests(tokens: Sequence[Sequence[int]], size: int) -> list[dict[str, Any]]:
    """Makes requests of so many texts, padded to their own longest."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    found = []
    for first in range(0, len(tokens) - size + 1, size):
        texts = [torch.tensor(ids) for ids in tokens[first : first + size]]
        real = [torch.ones_like(ids) for ids in texts]
        found.append(
            {
                "input_ids": pad_sequence(texts, batch_first=True),
                "attention_mask": pad_sequence(real, batch_first=True),
            }
        )
    return found


def _round(models: Sequence[Any], requests: Sequence[Any], number: int) -> list[list[float]]:
    """Gives each model's ms of each request.

    Some come in a row, after one that is not timed: who serves alone has its weights at hand.
    """
    size = len(requests[0]["input_ids"])
    length, taken = max(1, TEXTS_IN_A_ROW // size), [list[float]() for _ in models]
    for turn, first in enumerate(range(0, len(requests), length)):
        some = requests[first : first + length]
        for place in range(len(models)):
            model = (place + turn + number) % len(models)
            models[model](**some[0])
            taken[model] += [_ms(models[model], request) for request in some]
    return taken


def _ms(model: Any, request: Mapping[str, Any]) -> float:
    started = time.perf_counter()
    model(**request)
    return (time.perf_counter() - started) * 1e3


def _summed_up(times: Any, statistic: str) -> dict[str, float]:
    """Gives the statistic, or the ratio of both, and its 95 % interval over requests."""
    import numpy as np

    random, n_requests = np.random.default_rng(0), times.shape[1]
    draws = [random.integers(n_requests, size=n_requests) for _ in range(DRAWS)]
    drawn = [_compared(times[:, chosen], statistic) for chosen in draws]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": _compared(times, statistic), "low": float(low), "high": float(high)}


def _compared(times: Any, statistic: str) -> float:
    found = [_statistic(one, statistic) for one in times]
    return found[0] / found[1] if len(found) > 1 else found[0]


def _statistic(ms: Any, statistic: str) -> float:
    import numpy as np

    return float(ms.mean() if statistic == "mean" else np.quantile(ms, QUANTILES[statistic]))


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
