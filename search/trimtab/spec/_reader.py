"""From a file to a :class:`Document`: every way in which bytes can fail to be a spec."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NoReturn

from trimtab.spec._document import MAX_BYTES, Document, Place, ReadError, TreeBuilder, error_at
from trimtab.spec._json import read_json
from trimtab.spec._yaml import read_yaml
from trimtab.spec.errors import SpecError, SpecErrors

Form = Literal["yaml", "json"]

# What YAML calls printable, less the exotic line breaks, on which editors and parsers disagree.
_NOT_TEXT = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def read_file(path: str | Path) -> Document:
    """Reads a spec's file; ``.json`` is JSON, everything else is YAML.

    Raises:
        SpecErrors: with one error, whatever is wrong with the file.
    """
    file = str(path)
    try:
        content = _read_bytes(Path(path))
    except OSError as error:
        _refuse(file, f"a spec must be a readable file, but: {error.strerror or error}")
    form: Form = "json" if file.lower().endswith(".json") else "yaml"
    return read_text(content, file, form)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        _refuse(str(path), "a spec must be a file, but this is a folder", "name the file in it")
    if not path.exists():
        _refuse(str(path), "there is no such file", "`trimtab init` writes one to start from")
    if not path.is_file():
        _refuse(str(path), "a spec must be a regular file, but this is a pipe or device")
    with path.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def read_text(content: bytes | str, file: str, form: Form) -> Document:
    """Reads a spec's text; ``file`` is the name that errors show.

    Raises:
        SpecErrors: with one error, whatever is wrong with the text.
    """
    text = _decode(content, file)
    lines = tuple(text.split("\n"))
    tree = TreeBuilder()
    try:
        _check_characters(text)
        (read_json if form == "json" else read_yaml)(text, tree)
    except ReadError as error:
        place = Place(error.line, error.col)
        raise SpecErrors([error_at(error.message, file, lines, place, hint=error.hint)]) from None
    return Document(tree.root, file, lines, tree.values, tree.keys)


def _decode(content: bytes | str, file: str) -> str:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    if len(content) > MAX_BYTES:
        _refuse(file, f"a spec must be at most {MAX_BYTES // 1024} KiB, but this is larger")
    if b"\0" in content:
        _refuse(file, "a spec must be text in UTF-8, but this is a binary file (or UTF-16)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _refuse(
            file,
            f"a spec must be in UTF-8, but line {line} has the byte 0x{content[error.start]:02x}",
            "save the file as UTF-8",
        )
    if not text.strip():
        _refuse(file, "a spec must not be empty", "`trimtab init` writes one to start from")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_characters(text: str) -> None:
    found = _NOT_TEXT.search(text)
    if found is None:
        return
    before = text[: found.start()].split("\n")
    raise ReadError(
        f"a spec must have no control characters, but got U+{ord(found[0]):04X}",
        len(before) - 1,
        len(before[-1]),
        "remove it",
    )


def _refuse(file: str, message: str, hint: str | None = None) -> NoReturn:
    raise SpecErrors([SpecError(message, path=file, hint=hint)])
