"""The command that writes a checkpoint in another runtime's form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli._console import say
from trimtab.cli._options import Force, Json, print_json


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint.")],
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="The ONNX file to write.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as an ONNX graph, compared with it; needs pip install trimtab[onnx]."""
    from trimtab.export import export_onnx

    done = export_onnx(folder, onnx, force=force)
    if as_json:
        print_json(done.to_plain())
        return
    say(f"wrote {onnx}: {', '.join(done.inputs)} to logits, of any batch and length")
    say(
        f"onnxruntime gives the checkpoint's logits within {done.max_logit_difference:.1g} "
        f"on {done.rows} random texts"
    )
