"""`trimtab backup`: a copy that answers as the database does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_backup_answers_as_the_database(
    searching: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "a copy.db"
    ran = command("backup", file, "--db", searching)
    size = f"{file.stat().st_size:,}"
    said = f"wrote {file} ({size} bytes); models are not in it and stay where they are\n"
    assert (ran.code, ran.out, ran.err) == (0, said, "")
    frontiers = [command("frontier", "--db", db) for db in (searching, f"sqlite:///{file}")]
    assert frontiers[0].out == frontiers[1].out


def test_as_json(searched: str, command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    said = json.loads(command("backup", file, "--db", searched, "--json").out)
    assert said == {"written": str(file), "bytes": file.stat().st_size}


def test_what_is_there_stays(searched: str, command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    assert command("backup", file, "--db", searched).code == 0
    ran = command("backup", file, "--db", searched)
    said = f"{file} exists already: name another file, or pass --force\n"
    assert (ran.code, ran.out, ran.err) == (2, "", said)
    assert command("backup", file, "--db", searched, "--force").code == 0
