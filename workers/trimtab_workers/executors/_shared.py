"""Finds out whether a folder is the same for every node of a cluster."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trimtab_workers.executors._base import ExecutorError

MARK_FILE = ".trimtab-shared"


@dataclass(frozen=True)
class Mark:
    """A folder, and what the file in it says by which it is known again on another machine."""

    folder: str
    token: str

    def is_seen(self) -> bool:
        """Tells whether the folder is here the one that was marked."""
        return _read(Path(self.folder)) == self.token


def mark_all(folders: Iterable[str | Path]) -> tuple[Mark, ...]:
    """Marks folders, which are made where there are none; a mark stays, and is used again.

    Raises:
        ExecutorError: A folder cannot be written to.
    """
    # Not resolved: a link may lead elsewhere on another machine, and still to the same files.
    return tuple(_mark(Path(os.path.abspath(folder))) for folder in folders)


def _mark(folder: Path) -> Mark:
    token = secrets.token_hex(16)
    # Written beside and linked into place, so that nobody reads half of it, and only one wins.
    draft = folder / f"{MARK_FILE}-{token}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(token, encoding="utf-8")
        try:
            os.link(draft, folder / MARK_FILE)
        except FileExistsError:
            token = _read(folder)
        except OSError:  # this file system has no hard links
            draft.replace(folder / MARK_FILE)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ExecutorError(
            f"{folder}: must be a folder that can be written to, but got {error}"
        ) from error
    return Mark(str(folder), token)


def _read(folder: Path) -> str:
    try:
        return (folder / MARK_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""
