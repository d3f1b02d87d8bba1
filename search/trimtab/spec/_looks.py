"""After how much of its training a recipe is looked at: the field ``search.looks``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from trimtab.spec._stopping import GAIN_PATTERN, Share
from trimtab.spec._words import show
from trimtab.spec.errors import FieldError

MOST_LOOKS = 4


def _share(value: Any) -> Share:
    share = value if isinstance(value, Share) else Share.parse(value)
    if share.ratio >= 1:
        raise FieldError("must be less than 100%: a recipe that comes through gets all rows anyway")
    return share


def _ascending(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) > MOST_LOOKS:
        raise FieldError(
            f"must be a list of at most {MOST_LOOKS} percentages, but got {show(value)}",
            "write `[25%]`",
        )
    shares = [_share(each).ratio for each in value]
    if any(later <= earlier for earlier, later in zip(shares, shares[1:], strict=False)):
        raise FieldError("must go up from look to look", "write `[10%, 30%]`")
    return tuple(value)


LookShare = Annotated[Share, PlainValidator(_share), PlainSerializer(str, return_type=str)]
_ITEM = {"type": "string", "pattern": GAIN_PATTERN, "examples": ["25%"]}
Looks = Annotated[
    tuple[LookShare, ...],
    BeforeValidator(_ascending),
    WithJsonSchema({"type": "array", "items": _ITEM, "maxItems": MOST_LOOKS}),
]
