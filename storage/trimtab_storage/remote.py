"""Artifact files in a place that a URL names, such as `s3://bucket/prefix`.

    root/ab/abcdef…/study-1-0123…/model.safetensors   an upload: all that was written
    root/ab/abcdef…/manifest.json                     what it holds, and which upload counts

No such place can rename a folder, so the data come first and the manifest last: without one there
is no artifact, and who reads one finds whole what it names. Uploads of the same artifact do not
touch each other; the manifest that was first stays.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trimtab_storage._cache import Cache
from trimtab_storage._manifest import Manifest, read_manifest
from trimtab_storage._objects import Objects
from trimtab_storage.artifacts import StoredFile, check_owner, relative_path, written_files
from trimtab_storage.errors import PlaceError, StorageError
from trimtab_storage.places import checked_place

MANIFEST = "manifest.json"
_TRIES = 3


@dataclass(frozen=True)
class RemoteFiles:
    """The artifact files below one URL; a plain value that may be sent to worker processes.

    It holds no credentials: every process takes those of its own environment. Files are read and
    written through a folder of the machine at hand (see `Cache`).

    Attributes:
        url: The root of all artifacts, as `checked_place` gives it; a database has its own.
        owner: Who may clean up what is left; see `ArtifactFiles`. It is a part of every upload's
            name, so it must differ between a database and its copies, which share the root.
    """

    url: str
    owner: str

    def __post_init__(self) -> None:
        check_owner(self.owner)
        object.__setattr__(self, "url", checked_place(self.url))

    def path(self, key: str) -> Path:
        """Brings an artifact here, unless it is, and gives its folder.

        Raises:
            PlaceError: It is not there, or is not what was saved; or the place cannot be read.
        """
        manifest = self._manifest(key)
        if manifest is None:
            raise PlaceError(
                f"artifact {key} is not in {self.url}, or not whole: "
                "run the study again to make it anew"
            )
        return Cache.here().folder(manifest.sha256, lambda folder: self._bring(manifest, folder))

    def exists(self, key: str) -> bool:
        """Tells whether an artifact is there; it was then complete."""
        return self._manifest(key) is not None

    def verify(self, key: str, sha256: str) -> bool:
        """Tells whether an artifact was saved with that hash, and its files have their sizes.

        Their contents are compared when `path` brings them.
        """
        manifest = self._sound(key)
        return manifest is not None and manifest.sha256 == sha256

    def save(self, key: str, write: Callable[[Path], None]) -> StoredFile:
        """Saves an artifact; when it returns, it is there for all, and recorded nowhere.

        Args:
            key: Names the artifact.
            write: Writes the files into the empty folder it is given.

        Returns:
            The facts of what is in place: if a whole one was there already, that one's.

        Raises:
            ArtifactError: `write` left no files, or others than plain ones.
            PlaceError: The place cannot be used.
            DiskFullError: There was no room.
        """
        where, cache = relative_path(key), Cache.here()
        with cache.scratch() as folder:
            write(folder)
            manifest = Manifest(key, self._upload_name(), tuple(written_files(folder, key)))
            kept = self._sound(key) or self._publish(manifest, folder)
            if kept == manifest:
                cache.take(manifest.sha256, folder)
        return StoredFile(f"{self.url}/{where}", kept.sha256, kept.size_bytes)

    def remove(self, key: str) -> None:
        """Removes an artifact's files, at once for all who look; nothing if there are none."""
        objects, manifest = self._objects(), self._manifest(key)
        objects.remove(f"{relative_path(key)}/{MANIFEST}")
        if manifest is not None:
            objects.remove_folder(_upload_of(manifest))
            Cache.here().forget(manifest.sha256)

    def sweep(self, known: Callable[[str], bool]) -> int:
        """Removes what this owner left behind when it was killed; gives how many uploads.

        Call it when nobody works for this owner. Whether whole or not, only uploads that carry
        its name are removed, never those of another owner: what a copy of the database, or the one
        that it was copied from, has saved since is in rows that are not known here.

        It first shows that the place can be written to,
        as a study that cannot save its models should fail before it makes any.

        Args:
            known: Whether the database has the artifact of a key with a path.
        """
        objects, left = self._objects(), 0
        probe = f"probe-{self.owner}"
        objects.create(probe, b"", f"{probe}-draft")
        objects.remove(probe)
        # Who may write there may not be allowed to see this, and it is for tidiness only.
        with suppress(StorageError):
            self._abort_unfinished(objects)
        for key, uploads in self._uploads().items():
            ours = {upload for upload in uploads if _owner_of(upload) == self.owner}
            for upload in sorted(self._unwanted(key, uploads, ours, known(key))):
                objects.remove_folder(f"{relative_path(key)}/{upload}")
                left += 1
        return left

    def has_room(self, n_bytes: float) -> bool:
        """Hopes so: a place elsewhere does not tell, and each machine has its own cache."""
        return True

    def _abort_unfinished(self, objects: Objects) -> None:
        for upload_id, name in objects.unfinished().items():
            parts = name.split("/")
            if len(parts) > 3 and _owner_of(parts[2]) == self.owner:
                objects.abort(upload_id, name)

    def _unwanted(self, key: str, uploads: set[str], ours: set[str], is_known: bool) -> set[str]:
        if not ours or (is_known and len(uploads - {MANIFEST}) == 1 and MANIFEST in uploads):
            # Nearly always so, and no manifest has to be read to tell.
            return set()
        manifest = self._manifest(key)
        if manifest is None or manifest.upload not in ours:
            return ours
        if is_known:
            return ours - {manifest.upload}
        self._objects().remove(f"{relative_path(key)}/{MANIFEST}")
        return ours

    def _uploads(self) -> dict[str, set[str]]:
        """Gives what is in the folder of each artifact."""
        found: dict[str, set[str]] = defaultdict(set)
        for name in self._objects().sizes():
            parts = name.split("/")
            # What others put there is not ours to remove.
            with suppress(StorageError):
                if len(parts) >= 3 and relative_path(parts[1]) == "/".join(parts[:2]):
                    found[parts[1]].add(parts[2])
        return found

    def _publish(self, manifest: Manifest, folder: Path) -> Manifest:
        """Uploads a folder and makes it the artifact; gives what is the artifact then."""
        objects, upload = self._objects(), _upload_of(manifest)
        # Named like an upload, so that a sweep finds it.
        where, draft = relative_path(manifest.key), self._upload_name()
        kept: Manifest | None = None
        try:
            for file in manifest.files:
                objects.put(folder / file.name, f"{upload}/{file.name}")
            for _ in range(_TRIES):
                objects.create(f"{where}/{MANIFEST}", manifest.to_bytes(), f"{where}/{draft}")
                # Read again: another's may have been there, or the data did not all arrive.
                kept = self._sound(manifest.key)
                if kept is not None:
                    return kept
                objects.remove(f"{where}/{MANIFEST}")
        finally:
            if kept != manifest:
                with suppress(StorageError):
                    objects.remove_folder(upload)
        raise PlaceError(
            f"artifact {manifest.key} was uploaded to {self.url}, but did not arrive whole: "
            "try again"
        )

    def _bring(self, manifest: Manifest, folder: Path) -> None:
        objects, upload = self._objects(), _upload_of(manifest)
        if objects.sizes(upload) != manifest.sizes:
            raise _damaged(self.url, manifest, "files are missing, or have other sizes")
        for name in manifest.sizes:
            objects.get(f"{upload}/{name}", folder / name)
        wrong = manifest.difference(folder)
        if wrong is not None:
            raise _damaged(self.url, manifest, wrong)

    def _manifest(self, key: str) -> Manifest | None:
        data = self._objects().read(f"{relative_path(key)}/{MANIFEST}")
        return None if data is None else read_manifest(data, key)

    def _sound(self, key: str) -> Manifest | None:
        manifest = self._manifest(key)
        if manifest is None or self._objects().sizes(_upload_of(manifest)) != manifest.sizes:
            return None
        return manifest

    def _upload_name(self) -> str:
        return f"{self.owner}-{uuid.uuid4().hex}"

    def _objects(self) -> Objects:
        return Objects(self.url)


def _owner_of(upload: str) -> str:
    return upload.rpartition("-")[0]


def _upload_of(manifest: Manifest) -> str:
    return f"{relative_path(manifest.key)}/{manifest.upload}"


def _damaged(url: str, manifest: Manifest, wrong: str) -> PlaceError:
    where = f"{url}/{relative_path(manifest.key)}"
    return PlaceError(
        f"the files of artifact {manifest.key} are not what was saved ({wrong}), so they are not "
        f"used: remove {where} and run the study again to make it anew"
    )
