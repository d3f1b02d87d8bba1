"""Looks at a folder's weight files without loading them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from trimtab_workers._config import read_json
from trimtab_workers.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000  # the format's own limit
UNSAFE = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".ckpt", ".h5")


def weight_files(folder: Path) -> list[Path]:
    """Finds the safetensors files of a model and checks that they are whole.

    Raises:
        ModelError: There are none, only formats that may run code, or one is torn.
    """
    if (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    elif (folder / INDEX).is_file():
        files = _shards(folder)
    else:
        raise ModelError(_no_weights(folder))
    for file in files:
        _check_whole(file)
    return files


def _no_weights(folder: Path) -> str:
    unsafe = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in UNSAFE)
    if unsafe:
        return (
            f"{folder}: weights must be {SINGLE}, got only {', '.join(unsafe)}; such files can run "
            "code when they are opened, so convert them to safetensors where you trust them"
        )
    return f"{folder}: a model folder must have {SINGLE}, and there is none"


def _shards(folder: Path) -> list[Path]:
    index = folder / INDEX
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelError(f"{index}: weight_map must name the file of every tensor")
    names = {str(name) for name in placed.values()}
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: weights must be .safetensors in this folder, got {name!r}")
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: the weight file {name} of the index is missing")
    return [folder / name for name in sorted(names)]


def _check_whole(file: Path) -> None:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"{file}: the file is not well-formed safetensors ({error})") from None
    if 8 + length + max(ends, default=0) != size:
        raise ModelError(
            f"{file}: the file must have {8 + length + max(ends, default=0)} bytes, got {size}; "
            "copy it again"
        )
