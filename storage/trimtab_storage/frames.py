"""Rows as pandas DataFrames, for notebooks; pandas is imported on first use."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trimtab_storage.rows import PointRow, TrialRow

if TYPE_CHECKING:
    import pandas as pd


def points_frame(rows: Sequence[PointRow]) -> pd.DataFrame:
    """Gives one line a point, and `latency_ms` as a number beside the whole `latency`."""
    frame = _frame(PointRow, rows)
    values = [None if row.latency is None else row.latency.get("value") for row in rows]
    frame.insert(list(frame.columns).index("latency"), "latency_ms", values)
    frame["latency_ms"] = frame["latency_ms"].astype("float64")
    return _with_times(frame, ("created_at",))


def trials_frame(rows: Sequence[TrialRow]) -> pd.DataFrame:
    """Gives one line a trial."""
    frame = _frame(TrialRow, rows)
    frame["state"] = [str(row.state) for row in rows]
    frame["seconds"] = frame["seconds"].astype("float64")
    return _with_times(frame, ("created_at", "finished_at"))


def _frame(kind: type[Any], rows: Sequence[Any]) -> pd.DataFrame:
    import pandas as pd

    names = [field.name for field in dataclasses.fields(kind)]
    # Not `asdict`, which would copy every recipe.
    return pd.DataFrame([[getattr(row, name) for name in names] for row in rows], columns=names)


def _with_times(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    for column in columns:
        frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601")
    return frame
