"""The rows of the tables as frozen plain values: what goes into a store and what comes out.

`drop` is baseline metric minus metric, in the metric's units (0.01 is one point), positive when
worse. `flops` is the mean per sample. Times are seconds; `created_at` and `finished_at` are UTC in
ISO 8601 with microseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from trimtab_storage.errors import InvalidValueError

Json = dict[str, Any]
Recipe = list[Json]


class StudyState(StrEnum):
    """Where a study stands."""

    NEW = "new"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


class TrialState(StrEnum):
    """Where a trial stands; COMPLETE and FAILED are final."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


class Split(StrEnum):
    """The part of the validation data a point was measured on."""

    SEARCH = "search"
    CERTIFY = "certify"


class Cost(StrEnum):
    """The cost axis of a frontier."""

    FLOPS = "flops"
    LATENCY = "latency"


@dataclass(frozen=True)
class Lease:
    """The right to write for a study, good as long as nobody took it over with a higher fence."""

    study_id: int
    owner: str
    fence: int


@dataclass(frozen=True)
class StudyRow:
    """One spec being searched."""

    id: int
    name: str
    spec: Json
    fingerprint: Json
    state: StudyState
    limits: Json
    baseline: Json | None
    elapsed_s: float
    lease_owner: str | None
    lease_expires: float | None
    fence: int
    created_at: str


@dataclass(frozen=True)
class TrialRow:
    """One recipe dispatched.

    `reused` counts the steps that were not run because their artifact was there;
    `shared_points` counts points of its result that had been measured before, and so belong to
    an earlier trial or to none.
    """

    id: int
    study_id: int
    number: int
    recipe: Recipe
    recipe_key: str
    state: TrialState
    reason: str | None
    attempts: int
    seconds: float | None
    reused: int
    result: Json | None
    created_at: str
    finished_at: str | None
    shared_points: int = 0


@dataclass(frozen=True)
class NewPoint:
    """What was measured of an artifact at one setting of its knobs; `feasible` as judged now."""

    artifact_key: str
    recipe: Recipe
    knobs: Json
    split: str
    n: int
    metric: float
    drop: float
    flops: float
    flops_ratio: float
    params: int
    latency: Json | None
    feasible: bool

    def __post_init__(self) -> None:
        for name in ("metric", "drop", "flops", "flops_ratio"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise InvalidValueError(f"a point's {name} must be a finite number, got {value}")
        if self.split not in tuple(Split):
            raise InvalidValueError(
                f"a point's split must be {' or '.join(Split)}, got {self.split!r}"
            )


@dataclass(frozen=True)
class PointRow:
    """A measured point, with its place on the study's frontiers."""

    id: int
    study_id: int
    trial_id: int | None
    artifact_key: str
    recipe: Recipe
    knobs: Json
    split: str
    n: int
    metric: float
    drop: float
    flops: float
    flops_ratio: float
    params: int
    latency: Json | None
    feasible: bool
    on_flops_frontier: bool
    on_latency_frontier: bool
    created_at: str


@dataclass(frozen=True)
class NewArtifact:
    """A model after a prefix of a recipe; `path` is relative to the artifact root, None if dropped.

    It is a URL if the files do not lie beside the database. A path comes with the sha256 and the
    size that `Artifacts.save` gave with it.
    """

    key: str
    kind: str
    parent_key: str | None
    recipe: Recipe
    strategy: str | None
    path: str | None
    sha256: str | None
    size_bytes: int | None
    meta: Json
    seconds: float

    def __post_init__(self) -> None:
        if self.path is None:
            return
        if self.sha256 is None or self.size_bytes is None:
            raise InvalidValueError(
                f"artifact {self.key} has a path, so it must have sha256 and size_bytes too"
            )
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidValueError(
                f"an artifact's path must lie under the artifact root, got {self.path!r}"
            )


@dataclass(frozen=True)
class ArtifactRow:
    """A recorded artifact; with `path` None its weights are dropped and its recipe is kept."""

    key: str
    kind: str
    parent_key: str | None
    recipe: Recipe
    strategy: str | None
    path: str | None
    sha256: str | None
    size_bytes: int | None
    meta: Json
    seconds: float
    created_at: str


@dataclass(frozen=True)
class EventRow:
    """Something that happened to a study, for people and programs that follow it."""

    id: int
    study_id: int
    kind: str
    data: Json
    created_at: str
