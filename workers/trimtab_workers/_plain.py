"""What a dataset may not bring along: files from elsewhere, and anything but plain columns.

Pictures, sounds, archives and pickled arrays are read by code of many libraries, some of which
fetches, unpacks or runs what it finds; rows of text need none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trimtab_workers._links import lies_in
from trimtab_workers.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
PACKED = (".gz", ".bz2", ".xz", ".zst")


def check_folder_files(folder: Path, data_files: Mapping[str, Iterable[str]]) -> None:
    """Checks the files that a local folder, or its card, counts as its data.

    Raises:
        DataError: One lies elsewhere, or is of a kind that is more than rows.
    """
    for name in (str(name) for names in data_files.values() for name in names):
        file = Path(name)
        suffixes = [suffix.lower() for suffix in file.suffixes]
        kind = suffixes[-2:-1] if suffixes[-1:] and suffixes[-1] in PACKED else suffixes[-1:]
        if "://" in name or not lies_in(folder, file):
            raise DataError(
                f"{folder}: a local dataset must keep its files in its folder, but one is {name}; "
                "copy that file there if you mean it"
            )
        if not set(kind) & set(SUFFIXES):
            raise DataError(
                f"{file}: the files of a local dataset must be of type "
                f"{', '.join(SUFFIXES)}; convert it, or move it out of the folder"
            )


def check_plain(shown: str, features: Mapping[str, Any]) -> None:
    """Checks columns before they are read: a picture or a sound would be opened or fetched.

    Raises:
        DataError: One holds anything but text, numbers or classes.
    """
    for column, feature in features.items():
        kind = getattr(feature, "dtype", None) if _is_plain(feature) else type(feature).__name__
        if not _is_plain(feature) or "binary" in str(kind):
            raise DataError(
                f"{shown}: the column {column!r} must hold plain text or numbers, got {kind}; "
                "write it as text"
            )


def _is_plain(feature: Any) -> bool:
    from datasets import ClassLabel, Value

    return type(feature) in (ClassLabel, Value)
