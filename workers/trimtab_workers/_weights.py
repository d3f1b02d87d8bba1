"""Looks at a folder's weight files without loading them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trimtab_workers._config import read_json
from trimtab_workers.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_HEADER = 100_000_000  # the format's own limit
# weights of other programs; opening most of them can run code
OTHERS = frozenset(
    (
        *(".bin", ".ckpt", ".dill", ".gguf", ".h5", ".hdf5", ".joblib", ".keras", ".mar"),
        *(".msgpack", ".nemo", ".npy", ".npz", ".onnx", ".ot", ".pb", ".pickle", ".pkl", ".pt"),
        *(".pt2", ".pth", ".tar", ".tflite", ".tgz", ".zip"),
    )
)


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


def check_room(folder: Path, files: Iterable[Path], sizes: Mapping[str, int]) -> None:
    """Checks that weight files can hold a model of some sizes, before memory is asked for them.

    Args:
        folder: The model's folder, for the message.
        files: Its weight files.
        sizes: Elements of some of the model's weights, by what to call them; each takes a byte.

    Raises:
        ModelError: They are too small.
    """
    there = sum(file.stat().st_size for file in files)
    for what, elements in sizes.items():
        if elements > there:
            raise ModelError(
                f"{folder / 'config.json'}: the sizes must be those of the weights, but the {what} "
                f"alone would have {elements:,} numbers and the weight files have {there:,} bytes"
            )


def _no_weights(folder: Path) -> str:
    unsafe = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in OTHERS)
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
        end = _end_of_data(header)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{file}: the file is not well-formed safetensors ({error})") from None
    if 8 + length + end != size:
        raise ModelError(
            f"{file}: the file must have {8 + length + end} bytes, got {size}; copy it again"
        )


def _end_of_data(header: dict[str, Any]) -> int:
    end = 0
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            if type(start) is not int or type(stop) is not int or not 0 <= start <= stop:
                raise ValueError(f"the place of {name!r} must be two growing whole numbers")
            end = max(end, stop)
    return end
