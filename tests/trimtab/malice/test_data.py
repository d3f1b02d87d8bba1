"""Data made to do harm: each is refused in a clear line by the commands, and nothing runs."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest

from trimtab_workers.errors import DataError

URL = "http://127.0.0.1:9/canary.csv"

Build = Callable[[Path, Any], object]
"""Fills an empty folder; gives the name of a file, or None where the folder is the data set."""

pickled, saved_by_numpy = methodcaller("pickled"), methodcaller("saved_by_numpy")


def named(name: str, content: Callable[[Any], bytes]) -> Build:
    def build(folder: Path, canary: Any) -> str:
        (folder / name).write_bytes(content(canary))
        return name

    return build


def in_folder(name: str, content: Callable[[Any], bytes]) -> Build:
    def build(folder: Path, canary: Any) -> None:
        (folder / name).write_bytes(content(canary))

    return build


def rows_in_a_tar(canary: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (("../../canary", b"x"), ("1.txt", b"a"), ("1.pkl", canary.pickled())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def rows_in_a_zip(canary: Any) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../canary", "x")
        archive.writestr("train.csv", "text,label\na,1\n")
    return stream.getvalue()


def arrow(text: Any, *, stream: bool = False, **about: Any) -> Callable[[Any], bytes]:
    """Writes one row in Arrow's own form or as Parquet; ``about`` are the field's metadata."""

    def content(canary: Any) -> bytes:
        import pyarrow
        from pyarrow import parquet

        cell = canary.pickled() if text is None else text
        column = pyarrow.array([cell])
        entries = {
            key: canary.pickled() if value is None else value for key, value in about.items()
        }
        whole = {b"huggingface": entries.pop("huggingface")} if "huggingface" in entries else None
        kind = {f"ARROW:extension:{key}": value for key, value in entries.items()}
        names = [
            pyarrow.field("text", column.type, metadata=kind or None),
            pyarrow.field("label", pyarrow.int64()),
        ]
        table = pyarrow.table([column, [1]], schema=pyarrow.schema(names, metadata=whole))
        sink = io.BytesIO()
        if stream:
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            parquet.write_table(table, sink)
        return sink.getvalue()

    return content


PICTURE = json.dumps(
    {
        "info": {
            "features": {"text": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "int64"}}
        }
    }
)


def script(name: str | None = None) -> Build:
    def build(folder: Path, canary: Any) -> None:
        (folder / (name or f"{folder.name}.py")).write_text(canary.code)
        (folder / "train.csv").write_text("text,label\na,1\n")

    return build


def card(names: str) -> Build:
    def build(folder: Path, canary: Any) -> None:
        (folder.parent / "secret.csv").write_text("text,label\nsecret,1\n")
        head = f"configs:\n- config_name: default\n  data_files: {names}"
        (folder / "README.md").write_text(f"---\n{head}\n---\n")

    return build


def linked_rows(folder: Path, canary: Any) -> None:
    (folder.parent / "secret.csv").write_text("text,label\nsecret,1\n")
    (folder / "train.csv").symlink_to(folder.parent / "secret.csv")


IN_ITS_FOLDER = "must keep its files in its folder"
OF_TYPE = "must be of type .csv"
PLAIN = "must hold plain text or numbers"
DATA: dict[str, tuple[Build, str]] = {
    "a script": (script(), "scripts are no longer supported"),
    "a pickle in a folder": (in_folder("train.pkl", pickled), "cannot be loaded"),
    "an array in a folder": (in_folder("train.npy", saved_by_numpy), "cannot be loaded"),
    "an HDF5 file in a folder": (in_folder("train.h5", pickled), OF_TYPE),
    "a tar with a way out": (in_folder("train.tar", rows_in_a_tar), OF_TYPE),
    "a zip with a way out": (in_folder("train.zip", rows_in_a_zip), "cannot be loaded"),
    "a pickled type": (
        in_folder(
            "train.arrow", arrow("a", stream=True, name="arrow.py_extension_type", metadata=None)
        ),
        OF_TYPE,
    ),
    "a pickled type in Parquet": (
        named("x.parquet", arrow(b"a", name="arrow.py_extension_type", metadata=None)),
        PLAIN,
    ),
    "a pickled column": (named("x.parquet", arrow(None)), PLAIN),
    "a picture to fetch": (
        named("x.parquet", arrow({"bytes": b"", "path": URL}, huggingface=PICTURE)),
        PLAIN,
    ),
    "a pickle named .csv": (named("x.csv", pickled), "must be .*UTF-8"),
    "a zip named .parquet": (named("x.parquet", rows_in_a_zip), "cannot be read"),
    "a pickle": (named("x.pkl", pickled), "must be a file of type"),
    "a card that names a URL": (card(URL), "names a URL"),
    "a card that names a way out": (card("../secret.csv"), IN_ITS_FOLDER),
    "linked rows": (linked_rows, IN_ITS_FOLDER),
}


@pytest.mark.parametrize("name", DATA)
def test_data_are_refused(name: str, study: Path, refused: Any, canary: Any) -> None:
    from trimtab_workers.data import read_rows
    from trimtab_workers.task import DataSource

    build, message = DATA[name]
    folder = study / "rows"
    folder.mkdir()
    file = build(folder, canary)
    named_so = f"rows/{file}" if isinstance(file, str) else "{dataset: ./rows}"
    spec = study / "spec.yaml"
    spec.write_text(spec.read_text().replace("starter/train.tsv  ", named_so))
    for verb in ("plan", "run"):
        refused(message, verb, spec, "--db", f"sqlite:///{study}/x.db")
    source = DataSource(path=str(folder / file)) if file else DataSource(dataset=str(folder))
    with pytest.raises(DataError):
        read_rows(source, ("text", "label"))
