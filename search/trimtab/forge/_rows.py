"""The rows of artifacts, and the measurements that they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from trimtab_storage import ArtifactRow, Artifacts, NewArtifact
from trimtab_workers.jobs import Measurement, Stored


def measurement_name(metric: str, data_fingerprint: str, split: str) -> str:
    """Names a measurement within an artifact: which metric, on which rows."""
    return f"{metric} on {split} of {data_fingerprint}"


def is_on_disk(row: ArtifactRow, files: Artifacts) -> bool:
    """Tells whether an artifact's files are there, sound, and just as recorded."""
    return row.path is not None and row.sha256 is not None and files.verify(row.key, row.sha256)


def stored_measurement(row: ArtifactRow, name: str) -> Measurement | None:
    """Reads a measurement back from an artifact's row."""
    known = row.meta.get("measured", {}).get(name)
    return None if known is None else Measurement(**known)


def new_artifact(
    key: str,
    kind: str,
    parent_key: str | None,
    recipe: Sequence[dict[str, Any]],
    strategy: str | None,
    stored: Stored,
    measurement: Measurement | None,
    name: str,
    seconds: float,
    notes: Mapping[str, Any] | None = None,
) -> NewArtifact:
    """Builds the row of an artifact that was just saved."""
    measured = {} if measurement is None else {name: asdict(measurement)}
    return NewArtifact(
        key=key,
        kind=kind,
        parent_key=parent_key,
        recipe=list(recipe),
        strategy=strategy,
        path=stored.path,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        meta={**(notes or {}), "measured": measured},
        seconds=seconds,
    )


def with_measurement(row: ArtifactRow, name: str, measurement: Measurement) -> NewArtifact:
    """Builds what adds one more measurement to an artifact that is recorded and on disk."""
    known = {field.name: getattr(row, field.name) for field in fields(NewArtifact)}
    return NewArtifact(**{**known, "meta": {"measured": {name: asdict(measurement)}}})
