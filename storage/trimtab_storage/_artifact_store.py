"""Artifacts in the store: their rows, and the files behind these, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from trimtab_storage import _artifacts, _lease
from trimtab_storage.errors import PlaceError
from trimtab_storage.places import Artifacts, is_url, root_of
from trimtab_storage.reader import Reader
from trimtab_storage.remote import RemoteFiles
from trimtab_storage.rows import ArtifactRow, Lease, NewArtifact


class ArtifactStore(Reader):
    """What a store writes of artifacts; part of `Store`, which says how it is opened."""

    def record_artifact(self, lease: Lease | None, artifact: NewArtifact) -> ArtifactRow:
        """Records an artifact once; a path that comes with a later record is taken over.

        Args:
            lease: Checked if given; without one the artifact is recorded in any case.
            artifact: Recorded after its files were saved, never before. If they are gone by now,
                because another process dropped them, it is recorded without a path; but with it
                where the place cannot be asked, since files are compared before they are used.
        """
        artifacts = self._still_there([artifact])
        with self._database.write() as connection:
            if lease is not None:
                _lease.check(connection, lease)
            self._record(connection, artifacts)
            row = _artifacts.by_key(connection, artifact.key)
        assert row is not None
        return row

    def forget_file(self, *keys: str) -> None:
        """Notes that artifacts' weights are dropped; the files are left to `drop_files`."""
        with self._database.write() as connection:
            _artifacts.forget_files(connection, keys)

    def drop_files(self, files: Artifacts, *keys: str) -> None:
        """Drops artifacts' weights; their recipes stay.

        Killed in between, it leaves files that no row knows of, never a row without its files.
        Another process that records an artifact meanwhile keeps them; see `_turn` for other places.

        Raises:
            PlaceError: They lie elsewhere and could not be removed; no row knows of them then.
        """
        if not keys:
            return
        self.forget_file(*keys)
        for key in keys:
            with self._turn(files) as is_kept:
                if not is_kept(key):
                    files.remove(key)

    def sweep_files(self, files: Artifacts) -> int:
        """Removes what the owner of the files left behind when it was killed; gives how many.

        Call it when nobody works for that owner.
        """
        with self._turn(files) as is_kept:
            return files.sweep(is_kept)

    @contextmanager
    def _turn(self, files: Artifacts) -> Iterator[Callable[[str], bool]]:
        """Gives what tells whether files are recorded, in a moment in which they may be removed.

        Beside the database nobody can record one of them meanwhile. A place elsewhere may take
        minutes to answer, and no other process should wait that long for the write lock: there a
        file that is recorded just before it goes is found missing when it is needed.
        """
        if isinstance(files, RemoteFiles):
            yield self._is_kept
            return
        with self._database.write() as connection:
            yield lambda key: _artifacts.is_kept(connection, key)

    def _is_kept(self, key: str) -> bool:
        with self._database.read() as connection:
            return _artifacts.is_kept(connection, key)

    def _record(self, connection: Connection, artifacts: Sequence[NewArtifact]) -> None:
        """Records artifacts inside a write transaction, in which nobody can drop local files.

        Those elsewhere were asked for before; see `_still_there`.
        """
        known = [
            new
            if new.path is None or is_url(new.path) or (self.artifact_root / new.path).is_dir()
            else replace(new, path=None)
            for new in artifacts
        ]
        _artifacts.record(connection, known, self._now())

    def _still_there(self, artifacts: Sequence[NewArtifact]) -> list[NewArtifact]:
        """Takes the paths from artifacts whose files lay elsewhere and were dropped meanwhile.

        Whoever saved them found them there, as another's. Call it before a transaction: a place
        that does not answer is tried again for minutes. One that cannot be asked keeps no result
        from being recorded; files are compared with what was saved before they are used.
        """
        asked = list(artifacts)
        try:
            for index, new in enumerate(asked):
                if new.path is not None and is_url(new.path) and not _is_there(new.path):
                    asked[index] = replace(new, path=None)
        except PlaceError:
            # The others lie in the same place, so each would only take as long again.
            pass
        return asked

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")


def _is_there(url: str) -> bool:
    return RemoteFiles(root_of(url), "store").exists(url.rpartition("/")[2])
