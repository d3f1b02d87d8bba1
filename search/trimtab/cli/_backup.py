"""The command that copies a database, also while studies run in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli._console import say
from trimtab.cli._options import DEFAULT_DB, Db, Force, Json, print_json


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    force: Force = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Copy the database to a file, also while studies run; models stay where they are."""
    from trimtab_storage import back_up

    size_bytes = back_up(db, file, replace=force)
    if as_json:
        print_json({"written": str(file), "bytes": size_bytes})
    else:
        say(f"wrote {file} ({size_bytes:,} bytes); models are not in it and stay where they are")
