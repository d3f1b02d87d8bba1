"""The tables, and the view `frontier` that any SQL client can read while a study runs.

A point's artifact and an artifact's parent are named by key without a foreign key: keys are hashes
of what made the artifact, so a point stays meaningful, and can be rebuilt from its recipe, where
the artifact's own row was never written.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from trimtab_storage.rows import Split, StudyState, TrialState

metadata = MetaData()

_NULLABLE_JSON = JSON(none_as_null=True)


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(word)) for word in words)})")


schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("applied_at", Text, nullable=False),
)

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    Column("fingerprint", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("baseline", _NULLABLE_JSON),
    Column("elapsed_s", Float, nullable=False),
    Column("lease_owner", Text),
    Column("lease_expires", Float),
    Column("fence", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
    _one_of("state", StudyState),
)

trial = Table(
    "trial",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("recipe_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False),
    # The fence of the lease under which the running attempt was started: with `attempts` it names
    # one attempt for ever, although attempts of lost controllers are given back.
    Column("fence", Integer, nullable=False),
    Column("seconds", Float),
    Column("reused", Integer, nullable=False),
    Column("shared_points", Integer, nullable=False),
    Column("result", _NULLABLE_JSON),
    Column("created_at", Text, nullable=False),
    Column("finished_at", Text),
    UniqueConstraint("study_id", "number"),
    UniqueConstraint("study_id", "recipe_key"),
    _one_of("state", TrialState),
)
Index("trial_by_state", trial.c.study_id, trial.c.state)

artifact = Table(
    "artifact",
    metadata,
    Column("key", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("parent_key", Text),
    Column("recipe", JSON, nullable=False),
    Column("strategy", Text),
    Column("path", Text),
    Column("sha256", Text),
    Column("size_bytes", Integer),
    Column("meta", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("created_at", Text, nullable=False),
)
# Holds those alone whose weights are on the disk, few among all that were ever made.
Index(
    "artifact_kept",
    artifact.c.kind,
    artifact.c.key,
    artifact.c.parent_key,
    sqlite_where=text("path IS NOT NULL"),
)

point = Table(
    "point",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("trial_id", ForeignKey("trial.id")),
    Column("artifact_key", Text, nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("knobs", JSON, nullable=False),
    Column("knobs_key", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("metric", Float, nullable=False),
    Column("drop", Float, nullable=False),
    Column("flops", Float, nullable=False),
    Column("flops_ratio", Float, nullable=False),
    Column("params", Integer, nullable=False),
    Column("latency", _NULLABLE_JSON),
    # Of `latency`: the number the frontier compares, and the one a limit is held against.
    Column("latency_ms", Float),
    Column("latency_high_ms", Float),
    Column("feasible", Boolean, nullable=False),
    Column("on_flops_frontier", Boolean, nullable=False),
    Column("on_latency_frontier", Boolean, nullable=False),
    Column("created_at", Text, nullable=False),
    UniqueConstraint("study_id", "artifact_key", "knobs_key", "split"),
    _one_of("split", Split),
)
Index("point_by_trial", point.c.trial_id)
Index("point_by_split", point.c.study_id, point.c.split)
# These hold the frontiers alone, so their size is that of the answer, not that of the table.
Index(
    "point_flops_frontier",
    point.c.study_id,
    point.c.flops,
    point.c.drop,
    sqlite_where=text("on_flops_frontier = 1"),
)
Index(
    "point_latency_frontier",
    point.c.study_id,
    point.c.latency_ms,
    point.c.drop,
    sqlite_where=text("on_latency_frontier = 1"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("created_at", Text, nullable=False),
)
Index("event_by_study", event.c.study_id)

FRONTIER_VIEW = """
CREATE VIEW frontier AS
SELECT study.name AS study, 'flops' AS cost, point.id AS point_id, point."drop" AS "drop",
       point.flops AS value, point.metric AS metric, point.flops AS flops,
       point.flops_ratio AS flops_ratio, point.params AS params, point.recipe AS recipe,
       point.knobs AS knobs, point.n AS n, point.feasible AS feasible
FROM study JOIN point ON point.study_id = study.id
WHERE point.on_flops_frontier = 1
UNION ALL
SELECT study.name, 'latency', point.id, point."drop",
       point.latency_ms, point.metric, point.flops,
       point.flops_ratio, point.params, point.recipe,
       point.knobs, point.n, point.feasible
FROM study JOIN point ON point.study_id = study.id
WHERE point.on_latency_frontier = 1
"""
