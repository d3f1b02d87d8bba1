"""Options that several commands share, and the study that a command is about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli._console import say

if TYPE_CHECKING:
    from trimtab.study import Study

Db = Annotated[str, typer.Option("--db", help="Database URL.", envvar="TRIMTAB_DB", metavar="URL")]
Place = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        help="Where models lie, such as s3://bucket/prefix; by default beside the database.",
        envvar="TRIMTAB_ARTIFACTS",
        metavar="URL",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Hub = Annotated[bool, typer.Option("--allow-hub", help="Allow models and datasets from the hub.")]
StudyName = Annotated[
    str | None, typer.Argument(metavar="[STUDY]", help="May be left out when there is only one.")
]
MaxDrop = Annotated[str | None, typer.Option(help="Largest drop: 1pt, 0.01 or 1%.")]
MaxFlops = Annotated[str | None, typer.Option(help="Largest FLOPs: 40%, 0.4 or 1.2GFLOPs.")]
MaxLatency = Annotated[str | None, typer.Option(help="Largest latency: 8ms or 8.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]

DEFAULT_DB = "sqlite:///trimtab.db"


def find_study(name: str | None, db: str) -> Study:
    """Gives the named study, or the only one there is.

    Raises:
        InputError: if there is none of that name, or none or several to choose from.
    """
    from trimtab.errors import InputError
    from trimtab.study import Study, open_study
    from trimtab_storage import Reader

    if name is not None:
        return open_study(name, db=db)
    with Reader.open_reader(db) as reader:
        names = [study.name for study in reader.studies()]
    if len(names) == 1:
        return Study(names[0], db)
    if not names:
        raise InputError(f"there is no study in {db} yet: run `trimtab run spec.yaml`")
    raise InputError(f"there are several studies in {db}; name one of: {', '.join(names)}")


def print_json(value: Any) -> None:
    """Prints a value as JSON on stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
