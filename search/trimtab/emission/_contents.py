"""What must stand in a manifest beyond its hash: whoever changes it can sign it anew.

Only what is worked with is checked; everything else is for people to read.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MOST_TOKENS = 1_000_000


def _plain_name(name: str) -> str:
    if name == ".." or PurePath(name).name != name or "\\" in name or "\0" in name:
        raise ValueError("a file must be named without its folder")
    return name


FileName = Annotated[str, AfterValidator(_plain_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
Length = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _File(_Part):
    sha256: Sha256
    bytes: Size


class _Point(_Part):
    flops: Annotated[float, Field(ge=0)]
    params: Count


class _Task(_Part):
    text: Annotated[list[str], Field(min_length=1, max_length=2)]
    label: str
    metric: str
    max_length: Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class _Reference(_Part):
    input_ids: Annotated[
        list[Annotated[list[Size], Field(min_length=1, max_length=MOST_TOKENS)]],
        Field(min_length=1),
    ]
    logits: Annotated[list[Annotated[list[float], Field(min_length=1)]], Field(min_length=1)]


class _Manifest(_Part):
    study: str
    files: Annotated[dict[FileName, _File], Field(min_length=1)]
    tensors: dict[str, list[Size]]
    point: _Point
    task: _Task
    reference: _Reference
    workload: Annotated[dict[Length, Count], Field(min_length=1)]


def fault_of(content: dict[str, Any]) -> str | None:
    """Tells in a few words what of a manifest cannot be worked with; None if nothing."""
    try:
        read = _Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if len(read.reference.input_ids) != len(read.reference.logits):
        return "reference: there must be logits for each sequence"
    return None
