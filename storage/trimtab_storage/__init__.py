"""The database of a search and the files of its artifacts.

Takes and gives plain rows. The names below are imported when they are first used, so a worker
process that only saves artifact files does not load a database library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab_storage._log import sqlite_caution
    from trimtab_storage._shield import signals_wait
    from trimtab_storage.artifacts import ArtifactFiles, StoredFile
    from trimtab_storage.backup import back_up
    from trimtab_storage.engine import database_path
    from trimtab_storage.errors import (
        ArtifactError,
        DatabaseBusyError,
        DiskFullError,
        DuplicateRecipeError,
        ForkedStoreError,
        InvalidValueError,
        LeaseHeldError,
        LeaseLostError,
        PlaceError,
        SchemaError,
        StaleResultError,
        StorageError,
        TrialStateError,
        UnknownRowError,
    )
    from trimtab_storage.frames import points_frame, trials_frame
    from trimtab_storage.invariants import check_invariants
    from trimtab_storage.places import Artifacts
    from trimtab_storage.reader import Reader
    from trimtab_storage.remote import RemoteFiles
    from trimtab_storage.rows import (
        ArtifactRow,
        Cost,
        EventRow,
        Lease,
        NewArtifact,
        NewPoint,
        PointRow,
        Split,
        StudyRow,
        StudyState,
        TrialRow,
        TrialState,
    )
    from trimtab_storage.store import Store

__all__ = [
    "ArtifactError",
    "ArtifactFiles",
    "ArtifactRow",
    "Artifacts",
    "Cost",
    "DatabaseBusyError",
    "DiskFullError",
    "DuplicateRecipeError",
    "EventRow",
    "ForkedStoreError",
    "InvalidValueError",
    "Lease",
    "LeaseHeldError",
    "LeaseLostError",
    "NewArtifact",
    "NewPoint",
    "PlaceError",
    "PointRow",
    "Reader",
    "RemoteFiles",
    "SchemaError",
    "Split",
    "StaleResultError",
    "StorageError",
    "Store",
    "StoredFile",
    "StudyRow",
    "StudyState",
    "TrialRow",
    "TrialState",
    "TrialStateError",
    "UnknownRowError",
    "back_up",
    "check_invariants",
    "database_path",
    "points_frame",
    "signals_wait",
    "sqlite_caution",
    "trials_frame",
]

# From light to heavy: a name is looked for in the first ones before the last ones are loaded.
_HOMES = (
    "errors",
    "rows",
    "artifacts",
    "places",
    "remote",
    "_log",
    "frames",
    "invariants",
    "engine",
    "reader",
    "store",
    "backup",
    "_shield",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
