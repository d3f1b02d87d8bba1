"""Where a model or a data set is: a local folder or file, inside a package, or on the hub.

A reference is settled once, when the spec is loaded: local paths become absolute, everything else
stays as written. Nothing here reads a file or imports a package.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from trimtab.spec._words import did_you_mean, listing, show, show_path
from trimtab.spec.errors import FieldError

DATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LINES_SUFFIX = ".txt"
TEXT_SUFFIXES = (LINES_SUFFIX, *DATA_SUFFIXES)
PACKAGE_PREFIX = "package:"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\Z)")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?:@[0-9a-f]{7,40})?", re.ASCII)
_PACKAGE = re.compile(r"package:(?P<name>[A-Za-z_]\w*)(?P<inside>(?:/[\w.-]+)*)/?", re.ASCII)
_MAX_CHARACTERS = 1024


@dataclass(frozen=True)
class Surroundings:
    """What a spec's references are settled against."""

    folder: Path
    allow_hub: bool = False


def settle_model(text: str, around: Surroundings) -> str:
    """Settles a model: an absolute folder, ``package:NAME/sub/folder``, or a hub id.

    Raises:
        FieldError: for URLs, malformed references, and hub ids without ``allow_hub``.
    """
    if text.startswith(PACKAGE_PREFIX):
        _split_package(text)
        return text
    return _settle_folder(text, around, "a model")


def settle_dataset(text: str, around: Surroundings) -> str:
    """Settles a dataset: an absolute folder or a hub id.

    Raises:
        FieldError: for URLs, and hub ids without ``allow_hub``.
    """
    return _settle_folder(text, around, "a dataset")


def settle_file(text: str, around: Surroundings) -> str:
    """Settles a data file: an absolute path with a known extension.

    Raises:
        FieldError: for URLs and other extensions.
    """
    return _settle_typed(
        text, around, DATA_SUFFIXES, "for a dataset write `{dataset: …, split: …}`"
    )


def settle_text_file(text: str, around: Surroundings) -> str:
    """Settles a file of text without labels: an absolute path with a known extension.

    Raises:
        FieldError: for URLs and other extensions.
    """
    return _settle_typed(text, around, TEXT_SUFFIXES, "a `.txt` file has one text a line")


def settle_path(text: str, around: Surroundings) -> str:
    """Makes a local path absolute, from the spec's folder.

    Raises:
        FieldError: for URLs and texts that cannot be a path.
    """
    if not text.strip() or len(text) > _MAX_CHARACTERS or "\n" in text or "\0" in text:
        raise FieldError(f"must be a path of one line, but got {show(text)}")
    if _URL.match(text):
        raise FieldError(f"must be a local path, not a URL, but got {show(text)}")
    try:
        return os.path.abspath(around.folder / Path(text).expanduser())
    except RuntimeError:
        raise FieldError(f"must be a path in a known home folder, but got {show(text)}") from None


def is_hub_id(text: str) -> bool:
    """Tells whether a settled reference is on the hub."""
    parts = text.split("@")[0].split("/")
    return bool(_HUB_ID.fullmatch(text)) and not any(part.strip(".") == "" for part in parts)


def locate_model(settled: str) -> Path | None:
    """Finds the folder of a settled model; None where it is on the hub.

    Raises:
        FieldError: if the package is not installed, or its folder lies outside it.
    """
    if settled.startswith(PACKAGE_PREFIX):
        name, inside = _split_package(settled)
        return _inside_package(name, inside)
    return None if is_hub_id(settled) else Path(settled)


def package_folder(name: str) -> Path | None:
    """Finds a package's folder without importing it; None when it is not installed."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    locations = list(found.submodule_search_locations or ()) if found else []
    return Path(locations[0]) if locations else None


def _settle_typed(
    text: str, around: Surroundings, suffixes: tuple[str, ...], otherwise: str
) -> str:
    path = settle_path(text, around)
    suffix = Path(path).suffix
    if suffix.lower() not in suffixes:
        raise FieldError(
            f"must be a file of type {listing(suffixes)}, but got {show(text)}",
            did_you_mean(suffix, suffixes) or otherwise,
        )
    return path


def _settle_folder(text: str, around: Surroundings, what: str) -> str:
    path = settle_path(text, around)
    if not is_hub_id(text) or os.path.exists(path):
        return path
    if around.allow_hub:
        return text
    raise FieldError(
        f"must be {what}'s local folder, but there is no folder {show(text)}",
        "if this is a hub id, pass --allow-hub",
    )


def _split_package(text: str) -> tuple[str, str]:
    match = _PACKAGE.fullmatch(text)
    if match is None or ".." in text.split("/"):
        raise FieldError(
            f"must be `package:IMPORT_NAME/sub/folder` without `..`, but got {show(text)}"
        )
    return match["name"], match["inside"].strip("/")


def _inside_package(name: str, inside: str) -> Path:
    root = package_folder(name)
    if root is None:
        raise FieldError(
            f"must name an installed package, but `{name}` is not installed",
            "install it with pip in the environment that runs trimtab",
        )
    folder = (root / inside).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise FieldError(f"must stay inside the package `{name}`, but leads to {show_path(folder)}")
    return folder
