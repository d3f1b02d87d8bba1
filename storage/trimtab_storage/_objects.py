"""Files elsewhere, by fsspec: what is asked of any such place, in errors of one line.

fsspec is imported when a place is opened: who keeps artifacts beside the database never needs it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from trimtab_storage._folder import sync_file, sync_folder
from trimtab_storage._redaction import told
from trimtab_storage.errors import DiskFullError, PlaceError, StorageError
from trimtab_storage.places import PACKAGES, protocol_of


class Objects:
    """The files below one URL; names are relative to it, with slashes.

    Every method raises `PlaceError` when the place cannot be used, without repeating what might
    be a credential, and `DiskFullError` when it is full.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._is_local = protocol_of(url) == "file"
        with self._plain_errors("be opened"):
            options = {"auto_mkdir": True} if self._is_local else {}
            core = _core_for(url)
            # Other processes write there too, so a list that was read before tells nothing.
            found = core.url_to_fs(url, use_listings_cache=False, **options)
        self._fs: Any = found[0]
        self._base: str = found[1].rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Gives a small file's content, or None if there is none."""
        with self._plain_errors("be read"):
            try:
                return bytes(self._fs.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def create(self, name: str, data: bytes, draft: str) -> None:
        """Writes a small file in one piece; if there is one already, that one stays.

        Where no place does that by itself, a draft is there for a moment, under its own name.
        """
        with self._plain_errors("be written to"), suppress(FileExistsError):
            if self._is_local:
                self._link(Path(self._at(name)), data, Path(self._at(draft)))
            else:
                self._fs.pipe_file(self._at(name), data, mode="create")

    def put(self, source: Path, name: str) -> None:
        """Uploads a file."""
        with self._plain_errors("be written to"):
            self._fs.put_file(str(source), self._at(name))
            if self._is_local:
                sync_file(Path(self._at(name)))
                self._sync_above(Path(self._at(name)))

    def get(self, name: str, target: Path) -> None:
        """Downloads a file; its folder is made."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._plain_errors("be read"):
            self._fs.get_file(self._at(name), str(target))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Gives the names of all files below a folder, relative to it, with their sizes."""
        above = f"{self._at(folder)}/"
        with self._plain_errors("be listed"):
            try:
                found = self._fs.find(above.rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
        return {
            path.removeprefix(above): int(info["size"])
            for path, info in found.items()
            if path.startswith(above) and not path.endswith("/")
        }

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._plain_errors("be written to"), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def remove_folder(self, folder: str) -> None:
        """Removes all files below a folder."""
        with self._plain_errors("be written to"), suppress(FileNotFoundError):
            self._fs.rm(self._at(folder), recursive=True)

    def unfinished(self) -> dict[str, str]:
        """Gives the names of what was sent in parts and has not ended, by the ids of the uploads.

        Only S3 keeps such parts, unseen, and charges for them.
        """
        if not hasattr(self._fs, "list_multipart_uploads"):
            return {}
        bucket, _, above = f"{self._base}/".partition("/")
        with self._plain_errors("be listed"):
            found = self._fs.list_multipart_uploads(bucket)
        keys = {each["UploadId"]: each["Key"] for each in found}
        return {i: key.removeprefix(above) for i, key in keys.items() if key.startswith(above)}

    def abort(self, upload_id: str, name: str) -> None:
        """Gives up one of the `unfinished`."""
        bucket, _, key = self._at(name).partition("/")
        with self._plain_errors("be written to"):
            self._fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)

    def _at(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _link(self, path: Path, data: bytes, draft: Path) -> None:
        """Makes a whole file appear under a name that is free, which opening one cannot do."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(data)
            sync_file(draft)
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:
            # This file system has no hard links; a moment remains in which two may both win.
            if not path.exists():
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        self._sync_above(path)

    def _sync_above(self, path: Path) -> None:
        for folder in path.parents:
            sync_folder(folder)
            if folder == Path(self._base).parent:
                break

    @contextmanager
    def _plain_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(
                    f"nothing was saved, because {self.url} or the disk here is full: "
                    "make room and try again"
                ) from error
            # None: what the clients of object stores raise may name keys and signed addresses.
            raise PlaceError(f"{self.url} could not {what}: {told(error)}") from None


def fsspec_for(url: str, module: str = "fsspec") -> Any:
    """Imports fsspec, and what it needs for a URL.

    Raises:
        StorageError: A package is missing; the text says which.
    """
    protocol = protocol_of(url)
    try:
        import_module("fsspec").get_filesystem_class(protocol)
        return import_module(module)
    except ImportError:
        package = PACKAGES[protocol]
        raise StorageError(
            f"{protocol}:// needs the package {package}: pip install {package}"
        ) from None


def _core_for(url: str) -> Any:
    try:
        return fsspec_for(url, "fsspec.core")
    except StorageError as error:
        # Whoever asks for files is not at fault that this machine lacks a package.
        raise PlaceError(str(error)) from None
