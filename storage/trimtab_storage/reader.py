"""The reading half of the store; works on any database, also while a study runs in it."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from trimtab_storage import (
    _artifacts,
    _events,
    _migrations,
    _points,
    _studies,
    _trials,
    frontier,
)
from trimtab_storage.artifacts import ArtifactFiles
from trimtab_storage.engine import Database
from trimtab_storage.errors import InvalidValueError, StorageError
from trimtab_storage.places import Artifacts, folder_of, is_url, root_of
from trimtab_storage.remote import RemoteFiles
from trimtab_storage.rows import (
    ArtifactRow,
    EventRow,
    PointRow,
    Split,
    StudyRow,
    TrialRow,
    TrialState,
)

ARTIFACT_FOLDER = "trimtab-artifacts"
USUAL_NAME = "trimtab.db"
_IDENTITY_DIGITS = 16
_TOKEN_DIGITS = 12


class Reader:
    """One database, opened by one process; close it, or use it in a `with` statement.

    Every method sees one snapshot. All errors are `StorageError`s.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._place: str | None = None

    @classmethod
    def open_reader(cls, url: str) -> Self:
        """Opens an existing database for reading only; creates nothing and locks nobody out.

        Raises:
            StorageError: There is no such database.
            SchemaError: It is of another schema version, or of another program.
        """
        store = cls(Database.for_reading(url), time.time)
        try:
            with store._database.read() as connection:
                _migrations.check(connection)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Closes the connections; a second time does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of the database, with its whole path."""
        return f"sqlite:///{self._database.path}"

    @property
    def artifact_root(self) -> Path:
        """The folder beside the database in which artifact files lie; it may not exist yet."""
        return self._database.path.parent / ARTIFACT_FOLDER

    @property
    def shared_folders(self) -> list[Path]:
        """The folders that workers must reach to read and save artifacts; an object store is none.

        They may not exist yet.
        """
        path = self._any_path()
        where = self._place if path is None else root_of(path) if is_url(path) else None
        folder = self.artifact_root if where is None else folder_of(where)
        return [] if folder is None else [folder]

    def artifact_files(self, owner: str) -> Artifacts:
        """Gives the files of the artifacts, which lie where those that are recorded lie.

        As long as there are none, they will lie in the place that the store was opened with, each
        database in a folder of its own, or else beside the database.

        Args:
            owner: Who may clean up what is left, such as one study. What other databases beside
                this one left is not touched. In another place only uploads
                of this database file are swept, as a copy has the same studies: when it is moved
                or restored, what was left before stays, and nothing of the other's is touched.

        Raises:
            StorageError: They lie elsewhere than in the place that the store was opened with.
        """
        path = self._any_path()
        root = self._new_root() if path is None else root_of(path) if is_url(path) else None
        if self._place is not None and path is not None and root != self._new_root():
            raise StorageError(
                f"the artifacts of this database lie in {root or self.artifact_root}, so they "
                f"cannot lie in {self._place} as well: leave --artifacts (or TRIMTAB_ARTIFACTS) "
                "away, or pass another --db"
            )
        if root is None:
            return ArtifactFiles(self.artifact_root, f"{owner}{self._name_token()}")
        return RemoteFiles(root, f"{owner}.{self._file_token()}")

    def _name_token(self) -> str:
        """Gives what tells this database from others in its folder, whose artifacts lie together.

        By its name, so that a folder may be moved; the usual name goes without.
        """
        name = self._database.path.name
        if name == USUAL_NAME:
            return ""
        return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:_TOKEN_DIGITS]}"

    def _file_token(self) -> str:
        """Gives what tells this database file from its copies: machine, path and file number."""
        path = self._database.path
        try:
            number = path.stat().st_ino
        except OSError:
            # It was taken away meanwhile; then nothing that is there is ours to sweep.
            number = 0
        file = f"{socket.gethostname()} {path} {number}"
        return hashlib.sha256(file.encode(errors="surrogateescape")).hexdigest()[:_TOKEN_DIGITS]

    def _any_path(self) -> str | None:
        with self._database.read() as connection:
            return _artifacts.any_path(connection)

    def _new_root(self) -> str | None:
        if self._place is None:
            return None
        studies = self.studies()
        if not studies:
            raise InvalidValueError(
                "a database must have a study before it has artifacts in another place, as its "
                "folder there is named by the first one"
            )
        # Two databases in one place must not sweep each other's files away.
        first = f"{studies[0].name} {studies[0].created_at}"
        digits = hashlib.sha256(first.encode()).hexdigest()[:_IDENTITY_DIGITS]
        return f"{self._place}/{digits}"

    def studies(self) -> list[StudyRow]:
        """Gives all studies, oldest first."""
        with self._database.read() as connection:
            return _studies.listed(connection)

    def study(self, name: str) -> StudyRow | None:
        """Gives the study of that name, or None."""
        with self._database.read() as connection:
            return _studies.named(connection, name)

    def trials(
        self, study_id: int, state: TrialState | str | None = None, from_number: int = 0
    ) -> list[TrialRow]:
        """Gives a study's trials by number, all or those in one state.

        With `from_number`, those with lower numbers are not read, however many there are.
        """
        with self._database.read() as connection:
            return _trials.listed(connection, study_id, state, from_number)

    def trial(self, trial_id: int) -> TrialRow | None:
        """Gives the trial of that id, or None."""
        with self._database.read() as connection:
            return _trials.by_id(connection, trial_id)

    def trial_counts(self, study_id: int) -> dict[str, int]:
        """Gives how many trials are in each of the four states."""
        with self._database.read() as connection:
            return _trials.counts(connection, study_id)

    def points(
        self, study_id: int, split: str | None = Split.SEARCH, after_id: int = 0
    ) -> list[PointRow]:
        """Gives a study's points in the order they came, of one split or, with None, of both.

        With `after_id`, only those with a higher id are read, however many others there are.
        """
        with self._database.read() as connection:
            return _points.listed(connection, study_id, split, after_id)

    def point_count(self, study_id: int) -> int:
        """Counts a study's points on the search split."""
        with self._database.read() as connection:
            return _points.count(connection, study_id)

    def has_latency(self, study_id: int) -> bool:
        """Tells whether the latency of any point of a study was measured."""
        with self._database.read() as connection:
            return _points.has_latency(connection, study_id)

    def point(self, point_id: int) -> PointRow | None:
        """Gives the point of that id, or None."""
        with self._database.read() as connection:
            return _points.by_id(connection, point_id)

    def frontier(
        self,
        study_id: int,
        cost: str = "flops",
        *,
        max_drop: float | None = None,
        max_flops_ratio: float | None = None,
        max_flops: float | None = None,
        max_latency_ms: float | None = None,
    ) -> list[PointRow]:
        """Gives the members of a frontier that meet the limits, cheapest first.

        Limits are inclusive; a latency is held to the upper end of its interval.
        """
        limits = frontier.Limits(max_drop, max_flops_ratio, max_flops, max_latency_ms)
        with self._database.read() as connection:
            return _points.on_frontier(connection, study_id, cost, limits)

    def artifact(self, key: str) -> ArtifactRow | None:
        """Gives the artifact of that key, or None."""
        with self._database.read() as connection:
            return _artifacts.by_key(connection, key)

    def artifacts(self, keys: Iterable[str] | None = None) -> list[ArtifactRow]:
        """Gives all artifacts, or those of the keys that are there, oldest first."""
        with self._database.read() as connection:
            return _artifacts.listed(connection, keys)

    def kept_artifacts(self) -> list[ArtifactRow]:
        """Gives the artifacts whose weights are on the disk."""
        with self._database.read() as connection:
            return _artifacts.kept(connection)

    def models_off_frontiers(self) -> list[str]:
        """Gives the keys of kept models whose weights no frontier needs.

        They have no point on any study's frontier, and no model on one was made from them.
        """
        with self._database.read() as connection:
            return _artifacts.models_off_frontiers(connection)

    def events(
        self, study_id: int, after_id: int = 0, *, kind: str | None = None
    ) -> list[EventRow]:
        """Gives a study's events with a higher id than the given one, oldest first.

        Of one kind, if that is named: others may be large.
        """
        with self._database.read() as connection:
            return _events.after(connection, study_id, after_id, kind)

    def integrity_problems(self) -> list[str]:
        """Gives what the database engine itself finds wrong with the file; nothing if sound."""
        with self._database.read() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        problems = [] if found == ["ok"] else found
        return problems + [f"row {row[1]} of {row[0]} has no {row[2]}" for row in orphans]
