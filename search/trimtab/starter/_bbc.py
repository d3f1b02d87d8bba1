"""BBC News as two TSV files, from a package that carries the articles.

The package's modules are not imported: its files are read where they lie.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from trimtab.starter._toy import Row

TRAIN_ROWS = 1000


def read_articles(package: Path) -> list[Row]:
    """Reads the articles under a package's folder, without repeats.

    White space becomes single spaces, so that an article fits in a TSV line. Files that are not
    UTF-8 are left out.

    Returns:
        Pairs of text and label, in the order of the file names.
    """
    articles: dict[str, str] = {}
    for label, path in _files(package / "bbcnews" / "data"):
        try:
            text = " ".join(path.read_text(encoding="utf-8").split())
        except UnicodeDecodeError:
            continue
        if text:
            articles.setdefault(text, label)
    return list(articles.items())


def split_rows(rows: list[Row], train_rows: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Splits rows at random, each label in the same proportion on both sides."""
    rng = random.Random(seed)
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_label[row[1]].append(row)
    train: list[Row] = []
    rest: list[Row] = []
    for _, group in sorted(by_label.items()):
        rng.shuffle(group)
        cut = round(train_rows * len(group) / len(rows))
        train += group[:cut]
        rest += group[cut:]
    rng.shuffle(train)
    rng.shuffle(rest)
    return train, rest


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for label in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(label.glob("*.txt")):
            yield label.name, path
