"""Reads columns of labelled text through the `datasets` library.

Files are linked into a temporary folder and cached there: their names may then hold characters
that would be taken for patterns or URLs, several processes may read at once, and no stale or
forgotten copy stays behind.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from trimtab_workers._hub import HubError, fetch_snapshot, hub_id, is_away
from trimtab_workers._plain import check_folder_files, check_plain
from trimtab_workers._quiet import quiet_datasets, quiet_hub
from trimtab_workers._tables import check_utf8, scan_table
from trimtab_workers._words import did_you_mean, listed, one_line
from trimtab_workers.errors import DataError
from trimtab_workers.task import DataSource

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\b.*")
# pandas would read NA, null, None and the like as missing values
KEEP_TEXT = {"keep_default_na": False, "na_filter": False, "encoding": "utf-8"}


def read_rows(
    source: DataSource, columns: Sequence[str], *, allow_hub: bool = False
) -> dict[str, list[Any]]:
    """Reads the named columns of a source.

    Values of `.csv` and `.tsv` files are always text; those of the other formats have the type
    that the file gives them.

    Raises:
        DataError: The source is not there, cannot be read, has no rows or lacks a column.
    """
    with tempfile.TemporaryDirectory(prefix="trimtab-data-") as cache, quiet_datasets():
        dataset = _load(source, Path(cache), allow_hub)
        _check_columns(str(source), columns, dataset.column_names)
        dataset = dataset.select_columns(list(columns))
        check_plain(str(source), dataset.features)
        if len(dataset) == 0:
            raise DataError(f"{source}: at least one row is needed, but there is none")
        return {column: list(dataset[column]) for column in columns}


def _load(source: DataSource, cache: Path, allow_hub: bool) -> Any:
    if source.path is not None:
        return _load_file(Path(source.path), cache)
    folder = Path(str(source.dataset))
    if folder.is_dir():
        return _load_folder(source, folder.resolve(), cache)
    return _load_from_hub(source, cache, allow_hub)


def _load_file(path: Path, cache: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: a data file must be one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file{_neighbour(path)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file must have rows, but it is empty")
    link = cache / f"data{suffix}"
    link.symlink_to(path.resolve())
    if suffix == ".parquet":
        return _prepare(path, "from_parquet", link)
    check_utf8(path)
    if suffix == ".jsonl":
        return _load_jsonl(path, link)
    return _load_table(path, link, tabs=suffix == ".tsv")


def _load_table(path: Path, link: Path, *, tabs: bool) -> Any:
    from datasets import Features, Value

    table = scan_table(path, tabs=tabs)
    dataset = _prepare(
        path,
        "from_csv",
        link,
        features=Features({name: Value("string") for name in table.header}),
        names=list(table.header),
        header=0,
        sep="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        **KEEP_TEXT,
    )
    if len(dataset) != table.n_rows:
        raise DataError(
            f"{path}: two readers disagree on the number of rows ({table.n_rows} and "
            f"{len(dataset)}); look for stray carriage returns or NUL characters"
        )
    return dataset


def _load_jsonl(path: Path, link: Path) -> Any:
    try:
        return _prepare(path, "from_json", link, on_mixed_types=None)
    except DataError:
        _name_bad_line(path)
        raise


def _name_bad_line(path: Path) -> None:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line) if line.strip() else {}
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}: every line must be a JSON object, but line {number} is not "
                    f"well-formed ({error.msg})"
                ) from None
            if not isinstance(value, dict):
                raise DataError(
                    f"{path}: every line must be a JSON object, but line {number} is "
                    f"{type(value).__name__}"
                )


def _load_folder(source: DataSource, folder: Path, cache: Path) -> Any:
    from datasets import load_dataset_builder

    _refuse_remote_files(folder)
    try:
        builder = load_dataset_builder(str(folder), name=source.config, cache_dir=str(cache))
    except Exception as error:
        raise DataError(f"{source}: the folder cannot be loaded ({one_line(error)})") from error
    check_folder_files(folder, builder.config.data_files or {})
    options: dict[str, Any] = {}
    if hasattr(builder.config, "quoting"):
        quoting = csv.QUOTE_NONE if builder.config.sep == "\t" else csv.QUOTE_MINIMAL
        options = {**KEEP_TEXT, "quoting": quoting}
    return _load_dataset(
        str(source), str(folder), cache, name=source.config, split=source.split, **options
    )


def _refuse_remote_files(folder: Path) -> None:
    """A dataset card may name files by URL, and loading it would fetch them."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = text.split("\n---", 1)[0] if text.startswith("---") else ""
    if "://" in _data_files(front):
        raise DataError(
            f"{card}: a local dataset must keep its files in its folder, but its card names a URL"
        )


def _data_files(front: str) -> str:
    """Gives what a card says of its files, as one text; all of it where that cannot be told."""
    try:
        card = yaml.safe_load(front.removeprefix("---"))
        configs = card.get("configs", []) if isinstance(card, dict) else []
        return str([config.get("data_files") for config in configs])
    except (yaml.YAMLError, AttributeError, TypeError, RecursionError):
        return front


def _load_from_hub(source: DataSource, cache: Path, allow_hub: bool) -> Any:
    name = str(source.dataset)
    parts = hub_id(name)
    if parts is None:
        raise DataError(
            f"{name}: a dataset must be a local folder or a hub id OWNER/NAME[@REVISION], "
            "and there is no such folder"
        )
    if not allow_hub:
        raise DataError(
            f"{name}: there is no such folder; if it is a dataset on the hub, allow it with "
            "--allow-hub"
        )
    repository, revision = parts
    options = {"name": source.config, "split": source.split}
    try:
        with quiet_hub():
            return _load_dataset(str(source), repository, cache, revision=revision, **options)
    except DataError as error:
        if not is_away(error.__cause__):
            raise
    # The library finds again only what lies in a cache of its own, and ours is empty.
    return _load_folder(source, _cached_folder(source, repository, revision), cache)


def _cached_folder(source: DataSource, repository: str, revision: str | None) -> Path:
    try:
        folder = fetch_snapshot(repository, revision, kind="dataset", only_cached=True)
    except HubError as error:
        raise DataError(f"{source}: {error}") from error
    _refuse_missing_shards(source, folder)
    return folder


def _refuse_missing_shards(source: DataSource, folder: Path) -> None:
    """What was fetched in part, for a preview maybe, must not pass for the whole."""
    there: dict[tuple[str, int], set[int]] = {}
    for file in folder.rglob("*"):
        if file.is_file() and (match := SHARD.fullmatch(str(file.relative_to(folder)))):
            there.setdefault((match["stem"], int(match["count"])), set()).add(int(match["number"]))
    for (stem, count), numbers in sorted(there.items()):
        if len(numbers) < count:
            raise DataError(
                f"{source}: the dataset must be in the hub's cache as a whole, but {folder} has "
                f"only {len(numbers)} of the {count} files of {stem}; fetch it once with a network"
            )


def _prepare(path: Path, reader: str, link: Path, **options: Any) -> Any:
    """Reads one file; unlike `load_dataset`, this reports nothing to the hub's download counter."""
    from datasets import Dataset

    try:
        return getattr(Dataset, reader)(str(link), cache_dir=str(link.parent), **options)
    except Exception as error:  # the library lets pass what pandas and arrow raise
        if "corresponds to no data" in str(error):
            raise DataError(f"{path}: at least one row is needed, but there is none") from None
        raise DataError(f"{path}: the file cannot be read ({one_line(error)})") from error


def _load_dataset(shown: str, path: str, cache: Path, **options: Any) -> Any:
    from datasets import Dataset, load_dataset

    try:
        loaded = load_dataset(path, cache_dir=str(cache), **options)
    except Exception as error:  # the library lets pass what pandas, arrow and the network raise
        raise DataError(f"{shown}: the data cannot be read ({one_line(error)})") from error
    if isinstance(loaded, Dataset):
        return loaded
    if len(loaded) != 1:
        raise DataError(f"{shown}: say which split is meant; there are {listed(loaded)}")
    return next(iter(loaded.values()))


def _check_columns(shown: str, wanted: Sequence[str], there: Sequence[str]) -> None:
    for column in wanted:
        if column not in there:
            raise DataError(
                f"{shown}: there is no column {column!r}, there are {listed(there)}"
                f"{did_you_mean(column, there)}"
            )


def _neighbour(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (nor a folder {folder})"
    return did_you_mean(path.name, (file.name for file in folder.iterdir() if file.is_file()))
