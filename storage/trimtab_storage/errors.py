"""Everything the storage refuses, drawn once.

StorageError
├── InvalidValueError     (also ValueError) a value that no row may hold
├── UnknownRowError       (also LookupError) a row that is not there
├── SchemaError           the file is not ours, or of another schema version
├── DatabaseBusyError     another process kept the write lock for too long
├── DiskFullError         nothing was written, because the disk is full
├── ForkedStoreError      a store used in another process than the one that opened it
├── LeaseHeldError        another controller has the study
├── LeaseLostError        another controller took the study from us
├── DuplicateRecipeError  the study has this recipe already
├── TrialStateError       the trial is not in the state the step starts from
├── StaleResultError      a result of an attempt that is no longer the running one
└── ArtifactError         artifact files that are not as they must be
    └── PlaceError        the place of artifact files could not be read or written
"""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """The base of all errors of this package; its text is meant for the user."""


class InvalidValueError(StorageError, ValueError):
    """A value was given that no row may hold."""


class UnknownRowError(StorageError, LookupError):
    """A row was named that the database does not have."""


class SchemaError(StorageError):
    """The file is no database of ours, or one of another schema version."""


class DatabaseBusyError(StorageError):
    """Another process kept the write lock longer than the busy timeout."""


class DiskFullError(StorageError):
    """The disk is full; the transaction or the folder in question was not written."""


class ForkedStoreError(StorageError):
    """A store was used in a process that did not open it."""


class LeaseHeldError(StorageError):
    """Another controller holds the study.

    Attributes:
        owner: Who holds it.
        expires: When the lease runs out, in seconds since 1970.
    """

    def __init__(self, owner: str, expires: float) -> None:
        super().__init__(
            f"a study has one controller at a time, but {owner} holds this one: "
            "wait until it has finished, or stop it first"
        )
        self.owner = owner
        self.expires = expires


class LeaseLostError(StorageError):
    """Another controller has taken the study, so nothing may be written for it any more."""


class DuplicateRecipeError(StorageError):
    """The study has a trial with this recipe already.

    Attributes:
        number: The number of that trial.
    """

    def __init__(self, number: int) -> None:
        super().__init__(
            f"a recipe is tried once in a study, but trial {number} has this one: draw another"
        )
        self.number = number


class TrialStateError(StorageError):
    """A trial is not in the state that the step starts from."""


class StaleResultError(StorageError):
    """A result came for an attempt that is no longer the running one; it was dropped."""


class ArtifactError(StorageError):
    """Artifact files are not as they must be."""


class PlaceError(ArtifactError):
    """The place of artifact files could not be read or written, or what lies there is damaged.

    Whoever asked is not at fault, and the same may well succeed later.

    Attributes:
        blames: Tells those who do not import this package, such as workers, whose fault it is.
    """

    blames: ClassVar[str] = "storage"
