"""Whether the files that a spec names are there and look right; the standard library suffices.

These checks look at names and first lines only, so that they stay cheap on large data.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.spec._words import did_you_mean, listing, show, show_path
from trimtab.spec.errors import FieldError, KeyPath, SpecError
from trimtab.spec.references import LINES_SUFFIX, is_hub_id, locate_model

if TYPE_CHECKING:
    from trimtab.spec._model import Spec

_HEADER_BYTES = 1024 * 1024
_OTHER_WEIGHTS = frozenset(
    (
        *(".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".keras", ".msgpack", ".nemo"),
        *(".npy", ".npz", ".onnx", ".pb", ".pickle", ".pkl", ".pt", ".pth"),
    )
)
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer_config.json")


def check_files(spec: Spec) -> list[SpecError]:
    """Checks that the model's folder and the data files are there and have what they need.

    Hub ids and the columns of parquet files and datasets are not looked at.

    Returns:
        One error for each root cause; empty when everything is there.
    """
    headers: dict[str, list[str]] = {}
    errors = list(_check_model(spec))
    for part in ("train", "validation", "unlabeled"):
        try:
            names = _read_header(spec, part)
        except FieldError as fault:
            errors.append(spec.error(fault.message, ("task", part, *fault.at), fault.hint))
        else:
            if names is not None:
                headers[part] = names
    errors.extend(_check_columns(spec, headers))
    return errors


def _check_model(spec: Spec) -> Iterator[SpecError]:
    try:
        folder = locate_model(spec.model)
        if folder is not None:
            _check_model_folder(folder)
    except FieldError as fault:
        yield spec.error(fault.message, ("model",), fault.hint)


def _check_model_folder(folder: Path) -> None:
    shown = show_path(folder)
    if not folder.is_dir():
        there = "is a file" if folder.exists() else "is not there"
        raise FieldError(f"must be a folder, but {shown} {there}")
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        raise FieldError(f"must be a folder with a config.json, but {shown} has none")
    if not any(name.endswith(".safetensors") for name in names):
        others = (name for name in names if Path(name).suffix.lower() in _OTHER_WEIGHTS)
        raise _no_weights(shown, sorted(others))
    if names.isdisjoint(_TOKENIZERS):
        raise FieldError(
            f"must be a folder with its tokenizer, but {shown} has none of {listing(_TOKENIZERS)}",
            "save the tokenizer there with `tokenizer.save_pretrained(folder)`",
        )


def _no_weights(shown: str, others: list[str]) -> FieldError:
    if not others:
        return FieldError(f"must be a folder with .safetensors weights, but {shown} has none")
    return FieldError(
        f"must have its weights as .safetensors, but {shown} has only {listing(others)}, "
        "and loading such a file can run code hidden in it",
        "save the model again with `model.save_pretrained(folder)` where you trust the file",
    )


def _read_header(spec: Spec, part: str) -> list[str] | None:
    """Gives the columns of a file; None where they cannot be known cheaply."""
    source = getattr(spec.task, part)
    if source is None:
        return None
    path = source if isinstance(source, str) else source.path
    if path is not None:
        return _header_of(Path(path))
    if not is_hub_id(source.dataset) and not Path(source.dataset).is_dir():
        raise FieldError(
            f"must be a dataset's folder, but {show_path(source.dataset)} is not there",
            at=("dataset",),
        )
    return None


def _header_of(path: Path) -> list[str] | None:
    if not path.is_file():
        there = "is not a file" if path.exists() else "is not there"
        raise FieldError(f"must be a file, but {show_path(path)} {there}")
    return None if path.suffix.lower() == ".parquet" else _columns_of(path)


def _columns_of(path: Path) -> list[str] | None:
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise FieldError(
            f"must be a readable file, but {show_path(path)}: {error.strerror}"
        ) from None
    if not start.strip():
        raise FieldError(f"must have rows, but {show_path(path)} is empty")
    try:
        # Cut at a line, so that a character is not cut in two.
        text = start[: start.rfind(b"\n") + 1 or None].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FieldError(
            f"must be text in UTF-8, but {show_path(path)} is not", "save the file as UTF-8"
        ) from None
    suffix = path.suffix.lower()
    if suffix == LINES_SUFFIX:
        return None
    if suffix == ".jsonl":
        return _jsonl_columns(text, path)
    if suffix == ".tsv":
        return text.splitlines()[0].split("\t")
    return next(csv.reader(text.splitlines(keepends=True)), [])


def _jsonl_columns(text: str, path: Path) -> list[str]:
    line = next(line for line in text.split("\n") if line.strip())
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise FieldError(
            f"must have one JSON object on each line, but the first of {show_path(path)} is not"
        )
    return list(row)


def _check_columns(spec: Spec, headers: dict[str, list[str]]) -> Iterator[SpecError]:
    labelled = {part: names for part, names in headers.items() if part != "unlabeled"}
    yield from _check_column(spec, ("task", "label"), spec.task.label, labelled)
    for index, name in enumerate(spec.task.text):
        yield from _check_column(spec, ("task", "text", index), name, headers)


def _check_column(
    spec: Spec, path: KeyPath, column: str, headers: dict[str, list[str]]
) -> Iterator[SpecError]:
    for part, names in headers.items():
        if column not in names:
            yield spec.error(
                f"must be a column of `{part}`, which has {listing(names)}, but got {show(column)}",
                path,
                did_you_mean(column, names),
            )
            return
