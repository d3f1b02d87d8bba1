"""Looks at a text file before it is loaded, so that what is wrong has a line number."""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_workers._words import listed
from trimtab_workers.errors import DataError

CHUNK_BYTES = 1 << 20
LONGEST_FIELD = 1 << 28  # the csv module stops at 128 KiB, which real documents exceed


@dataclass(frozen=True)
class Table:
    """The header of a delimited file and the number of records below it."""

    header: tuple[str, ...]
    n_rows: int


def check_utf8(path: Path) -> None:
    """Refuses a file that is not UTF-8, naming the first line that is not."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise DataError(
                    f"{path}: the file must be UTF-8, but line {line} is not "
                    f"({error.reason}); save it as UTF-8 again"
                ) from None
            if not chunk:
                return


def read_lines(path: Path) -> list[str]:
    """Reads a file of one text a line; blank lines are passed over.

    Raises:
        DataError: There is no such file, it is not UTF-8, or it has no text.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    check_utf8(path)
    with path.open(encoding="utf-8-sig") as file:
        lines = [text for line in file if (text := line.rstrip("\n")).strip()]
    if not lines:
        raise DataError(f"{path}: at least one line of text is needed, but there is none")
    return lines


def scan_table(path: Path, *, tabs: bool) -> Table:
    """Reads a delimited file through once and checks its shape.

    Args:
        path: A UTF-8 file.
        tabs: Whether it is tab-separated without quoting; else it is RFC 4180.

    Raises:
        DataError: There is no header or no row, a column's name comes twice, a record has more or
            fewer fields than the header, or a quotation is broken.
    """
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if tabs:
                reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            else:
                reader = csv.reader(file, strict=True)
            return _scan(path, reader)
    finally:
        csv.field_size_limit(limit)


def _scan(path: Path, reader: Any) -> Table:
    header: tuple[str, ...] | None = None
    n_rows = 0
    try:
        for record in reader:
            if len(record) < 2 and not "".join(record).strip():
                continue  # a blank line
            if header is None:
                header = _checked_header(path, record)
            elif len(record) != len(header):
                raise DataError(
                    f"{path}: every row must have as many fields as the header ({len(header)}), "
                    f"but line {reader.line_num} has {len(record)}; "
                    + ("a tab" if reader.dialect.delimiter == "\t" else "an unquoted comma")
                    + " inside the text is the usual cause"
                )
            else:
                n_rows += 1
    except csv.Error as error:
        raise DataError(
            f"{path}: line {reader.line_num} is not well-formed ({error}); in a .csv file a field "
            'that holds a comma, a quote or a line break must be quoted, and quotes doubled ("")'
        ) from None
    if header is None:
        raise DataError(f"{path}: the file must have a header line and rows, but it is empty")
    if n_rows == 0:
        raise DataError(f"{path}: at least one row is needed, but there is only a header")
    return Table(header, n_rows)


def _checked_header(path: Path, record: list[str]) -> tuple[str, ...]:
    twice = sorted({name for name in record if record.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column names must differ, but the header repeats {listed(twice)}")
    return tuple(record)
