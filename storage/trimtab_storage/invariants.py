"""What must be true of a study's rows and files after anything whatever was killed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter, itemgetter

from trimtab_storage import _json
from trimtab_storage.artifacts import relative_path
from trimtab_storage.errors import StorageError
from trimtab_storage.reader import Reader
from trimtab_storage.remote import RemoteFiles
from trimtab_storage.rows import (
    PointRow,
    Split,
    StudyRow,
    StudyState,
    TrialRow,
    TrialState,
)


def check_invariants(store: Reader, study_id: int) -> list[str]:
    """Checks a study, all kept artifact files and the database file itself.

    Returns:
        One sentence for each thing that is wrong; an empty list means that all is well.
    """
    problems = list(store.integrity_problems())
    study = next((row for row in store.studies() if row.id == study_id), None)
    if study is None:
        return [*problems, f"there is no study with id {study_id}"]
    trials = store.trials(study_id)
    points = store.points(study_id, split=None)
    problems += _study(study, trials)
    problems += _trials(trials, points)
    problems += _flags(points)
    problems += _files(store)
    return problems


def _study(study: StudyRow, trials: Iterable[TrialRow]) -> Iterator[str]:
    if study.state is not StudyState.FINISHED:
        return
    if study.lease_owner is not None:
        yield f"study {study.name} is finished, but {study.lease_owner} has its lease"
    for trial in trials:
        if trial.state in (TrialState.WAITING, TrialState.RUNNING):
            yield f"study {study.name} is finished, but trial {trial.number} is {trial.state}"


def _trials(trials: Iterable[TrialRow], points: Iterable[PointRow]) -> Iterator[str]:
    own = Counter(point.trial_id for point in points)
    recipes: dict[str, int] = {}
    for trial in trials:
        label = f"trial {trial.number}"
        first = recipes.setdefault(_json.dumps(trial.recipe), trial.number)
        if first != trial.number:
            yield f"{label} has the recipe of trial {first}"
        if trial.state is TrialState.COMPLETE:
            if trial.result is None:
                yield f"{label} is complete, but has no result"
            may_lack = (trial.result or {}).get("only_looked_at", False)
            if own[trial.id] + trial.shared_points == 0 and not may_lack:
                yield f"{label} is complete, but has no points"
        elif own[trial.id]:
            yield f"{label} is {trial.state}, but has {own[trial.id]} point(s)"
        if trial.state is TrialState.FAILED and not trial.reason:
            yield f"{label} is failed, but has no reason"


def _flags(points: list[PointRow]) -> Iterator[str]:
    search = [point for point in points if point.split == Split.SEARCH]
    flops = _unbeaten((point.flops, point) for point in search)
    latency = _unbeaten((cost, point) for point in search if (cost := _latency(point)) is not None)
    for point in points:
        if point.on_flops_frontier != (point.id in flops):
            yield f"point {point.id} has a wrong flag for the frontier of FLOPs"
        if point.on_latency_frontier != (point.id in latency):
            yield f"point {point.id} has a wrong flag for the frontier of latency"


def _unbeaten(priced: Iterable[tuple[float, PointRow]]) -> set[int]:
    """Gives the ids of the points that no other one beats, by a walk from cheap to dear."""
    kept: set[int] = set()
    least = float("inf")
    for _, group in itertools.groupby(sorted(priced, key=itemgetter(0)), key=itemgetter(0)):
        same = [point for _, point in group]
        drop = min(map(attrgetter("drop"), same))
        if drop < least:
            least = drop
            kept.update(point.id for point in same if point.drop == drop)
    return kept


def _latency(point: PointRow) -> float | None:
    latency = point.latency
    if latency is None or latency.get("verdict") == "unstable":
        return None
    return latency.get("value")


def _files(store: Reader) -> Iterator[str]:
    files = store.artifact_files("invariants")
    where = f"{files.url}/" if isinstance(files, RemoteFiles) else ""
    for artifact in store.kept_artifacts():
        try:
            sound = artifact.sha256 is not None and files.verify(artifact.key, artifact.sha256)
            here = artifact.path == where + relative_path(artifact.key)
        except StorageError as error:
            yield f"artifact {artifact.key}: {error}"
            continue
        if not here:
            yield f"artifact {artifact.key} is recorded at {artifact.path}, where it cannot be"
        if not sound:
            yield f"artifact {artifact.key} is recorded, but its files are missing or different"
