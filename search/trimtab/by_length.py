"""Cost and drop of points among short, middling and long texts, from the records that were kept.

What a point costs and loses on average hides where: exits win on short texts, token pruning on
long ones. Records lie beside a model's weights, so no model is run and torch is not needed.

Legend:
    N  rows that decided    B  buckets of length
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab_storage import PointRow, Reader, StudyRow
from trimtab_strategies.cost import EncoderShape, encoder_macs
from trimtab_strategies.outcomes import Pricing, outcome_at
from trimtab_strategies.records import Ints, Records, records_file
from trimtab_strategies.replay import LENGTH_BUCKETS, predictions_of, rows_by_length
from trimtab_workers.metrics import metric_of_counts

if TYPE_CHECKING:
    import pandas

FIELDS = ("n", "flops_ratio", "metric", "drop")
"""What is told of a point in a bucket, in this order."""
COLUMNS = ("id", "recipe", "knobs", "low", "high", *FIELDS)
MOST_NAMED = 5
CONFIG = "config.json"
ROUNDING = 1e-9

Rows = NDArray[np.bool_]
FolderOf = Callable[[str], Path | None]
"""Gives the folder of an artifact's files; None where they are gone."""


@dataclass(frozen=True)
class InBucket:
    """One point among the rows of one bucket.

    ``flops_ratio`` is a share of what the dense model costs on these very rows. ``drop`` is the
    dense model's metric on them less this one's; None where its records are missing.
    """

    n: int
    flops_ratio: float
    metric: float
    drop: float | None


@dataclass(frozen=True)
class PointByLength:
    """A point in each of the B buckets; None where a bucket has no rows."""

    point: PointRow
    buckets: tuple[InBucket | None, ...]


@dataclass(frozen=True)
class ByLength:
    """Points by length, and the points of which no records were kept."""

    points: tuple[PointByLength, ...]
    without: tuple[PointRow, ...]

    @property
    def counts(self) -> tuple[int | None, ...]:
        """How many rows each bucket has, the same for all points; None while no records tell."""
        if not self.points:
            return (None,) * len(LENGTH_BUCKETS)
        return tuple(0 if here is None else here.n for here in self.points[0].buckets)

    def faults(self) -> Iterator[str]:
        """Yields a line on each thing that is missing, and how to get it."""
        # Under another name in the same database, the same artifacts would be used again.
        mend = "run the spec again with another --db"
        if self.without:
            ids = [str(point.id) for point in self.without]
            more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
            word = "point" if len(ids) == 1 else "points"
            named = f"{word} {', '.join(ids[:MOST_NAMED])}{more}"
            yield f"there are no sound records of {named}: {mend} to get them"
        if any(here and here.drop is None for one in self.points for here in one.buckets):
            yield f"there are no sound records of the baseline on these rows: {mend} to get drops"


@dataclass(frozen=True, eq=False)
class Recorded:
    """A model's records at one scale, and what its costs follow from."""

    pricing: Pricing
    records: Records


@dataclass(frozen=True, eq=False)
class Dense:
    """The dense model that everything is held against; its records may be missing."""

    shape: EncoderShape
    records: Records | None

    def macs(self, lengths: Ints) -> Ints:
        """Gives its MACs [N] on rows of these lengths."""
        found, places = np.unique(lengths, return_inverse=True)
        each = [encoder_macs(self.shape, int(length)) for length in found]
        return np.array(each, dtype=np.int64)[places]

    def has_rows_of(self, others: Records) -> bool:
        """Tells whether its records are of the same rows as others."""
        ours = self.records
        return (
            ours is not None
            and np.array_equal(ours.lengths, others.lengths)
            and np.array_equal(ours.labels, others.labels)
        )

    def told(self) -> Ints | None:
        """Gives the class [N] that it tells each row; None where its records are missing."""
        return None if self.records is None else predictions_of(self.records)[:, -1]


def in_buckets(
    pricing: Pricing, records: Records, knobs: Mapping[str, Any], dense: Dense, metric: str
) -> tuple[InBucket | None, ...]:
    """Tells what a model at one setting of its knobs costs and loses in each bucket of length.

    Args:
        pricing: What its costs follow from.
        records: What was recorded of it, at the scale that the knobs name.
        knobs: The setting.
        dense: What it is held against; its records are of the same rows.
        metric: One of those that a task can name.

    Raises:
        ValueError: if records, configuration and knobs do not fit together.
    """
    macs, told = outcome_at(pricing, records, knobs)
    dense_macs, dense_told = dense.macs(records.lengths), dense.told()

    def score(said: Ints, rows: Rows) -> float:
        return _score(metric, said[rows], records.labels[rows], records.logits.shape[1])

    found: list[InBucket | None] = []
    for rows in rows_by_length(records.lengths):
        if not rows.any():
            found.append(None)
            continue
        ratio, value = float(macs[rows].sum() / dense_macs[rows].sum()), score(told, rows)
        drop = None if dense_told is None else score(dense_told, rows) - value
        found.append(InBucket(int(rows.sum()), ratio, value, drop))
    return tuple(found)


def _score(metric: str, said: Ints, labels: Ints, n_classes: int) -> float:
    """Scores without the library that workers score with, which takes long to import."""
    right, told, labelled = (
        np.bincount(classes, minlength=n_classes)
        for classes in (labels[said == labels], said, labels)
    )
    return float(metric_of_counts(metric, right, told, labelled))


def read_by_length(
    points: Sequence[PointRow], baseline: Mapping[str, Any], metric: str, folder_of: FolderOf
) -> ByLength:
    """Tells points by length, from the files of their artifacts.

    Args:
        points: Those to tell, measured on the rows that decide.
        baseline: The dense model's ``artifact``, and the ``metric`` and ``n`` that it was measured
            with on those rows.
        metric: The study's.
        folder_of: Finds artifacts.

    Raises:
        InputError: if the dense model's files are gone.
    """
    read = cache(partial(_read, folder_of))
    models = [read(point.artifact_key, records_file(point.knobs)) for point in points]
    made = [point.artifact_key != baseline["artifact"] for point in points]
    rows = [model.records for model, is_made in zip(models, made, strict=True) if model and is_made]
    dense = _read_dense(baseline, metric, folder_of, rows)
    found: list[PointByLength] = []
    without: list[PointRow] = []
    for point, model, is_made in zip(points, models, made, strict=True):
        if model is None or not (is_made or dense.records):
            without.append(point)
        else:
            buckets = in_buckets(model.pricing, model.records, point.knobs, dense, metric)
            found.append(PointByLength(point, buckets))
    return ByLength(tuple(found), tuple(without))


def _read(folder_of: FolderOf, key: str, file: str) -> Recorded | None:
    folder = folder_of(key)
    if folder is None:
        return None
    # Of damaged records as little can be told as of missing ones.
    with suppress(OSError, ValueError):
        return Recorded(_read_pricing(folder), Records.load(folder / file))
    return None


def _read_dense(
    baseline: Mapping[str, Any], metric: str, folder_of: FolderOf, rows: Sequence[Records]
) -> Dense:
    """Reads the dense model; its records count only if they are of these rows.

    A model that came with its head is one artifact for all studies of it, whatever their rows, and
    has the records of the first.
    """
    key = baseline["artifact"]
    folder = folder_of(key)
    if folder is None or not (folder / CONFIG).is_file():
        raise InputError(
            f"the files of the baseline (artifact {key[:12]}) are gone: run the study again to "
            "make them anew"
        )
    known = _read(folder_of, key, records_file({}))
    dense = Dense(_read_pricing(folder).shape, None if known is None else known.records)
    if known is None or not all(dense.has_rows_of(others) for others in rows):
        return replace(dense, records=None)
    told, labels = predictions_of(known.records)[:, -1], known.records.labels
    value = _score(metric, told, labels, known.records.logits.shape[1])
    is_its_own = len(labels) == baseline["n"] and abs(value - baseline["metric"]) < ROUNDING
    return dense if is_its_own else replace(dense, records=None)


def _read_pricing(folder: Path) -> Pricing:
    return Pricing.of(json.loads((folder / CONFIG).read_text(encoding="utf-8")))


def by_length_of(reader: Reader, study: StudyRow, points: Sequence[PointRow]) -> ByLength:
    """Tells some of a study's points by length; of a study without a baseline there are none.

    Raises:
        InputError: if the dense model's files are gone.
    """
    if study.baseline is None:
        return ByLength((), ())
    baseline = study.baseline
    rows = reader.artifacts({baseline["artifact"], *(point.artifact_key for point in points)})
    kept = {row.key for row in rows if row.path is not None}
    files = reader.artifact_files("by-length")

    def folder_of(key: str) -> Path | None:
        return files.path(key) if key in kept else None

    return read_by_length(points, baseline, study.spec["task"]["metric"], folder_of)


def by_length_plain(study: str, found: ByLength) -> dict[str, Any]:
    """Gives points by length as ``frontier --by-length --json`` does."""
    ends = zip(LENGTH_BUCKETS, found.counts, strict=True)
    return {
        "study": study,
        "buckets": [{"low": low, "high": high, "n": n} for (low, high), n in ends],
        "points": [
            {
                **{name: getattr(one.point, name) for name in ("id", "recipe", "knobs")},
                "buckets": [None if here is None else vars(here) for here in one.buckets],
            }
            for one in found.points
        ],
    }


def by_length_lines(found: ByLength) -> list[dict[str, Any]]:
    """Gives one line for each point and bucket, with :data:`COLUMNS`; of an empty bucket n is 0."""
    nothing = dict.fromkeys(FIELDS) | {"n": 0}
    return [
        {
            **{name: getattr(one.point, name) for name in ("id", "recipe", "knobs")},
            "low": low,
            "high": high,
            **(nothing if here is None else vars(here)),
        }
        for one in found.points
        for (low, high), here in zip(LENGTH_BUCKETS, one.buckets, strict=True)
    ]


def by_length_frame(found: ByLength) -> pandas.DataFrame:
    """Gives those lines as a DataFrame; ``high`` of the last bucket is missing."""
    import pandas as pd

    frame = pd.DataFrame(by_length_lines(found), columns=list(COLUMNS))
    whole = dict.fromkeys(("id", "low", "n"), "int64") | {"high": "Int64"}
    return frame.astype(whole | dict.fromkeys(("flops_ratio", "metric", "drop"), "float64"))
