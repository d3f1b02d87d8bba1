"""JSON as it stands in the tables: one text for one value, and no NaN."""

from __future__ import annotations

import json
from typing import Any

from trimtab_storage.errors import InvalidValueError

_SHOWN = 200


def dumps(value: Any) -> str:
    """Writes a value canonically, so that equal values have equal texts."""
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"stored values must be plain JSON with finite numbers, but {error}: {_short(value)}"
        ) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def loads(text: str) -> Any:
    """Reads a stored value."""
    return json.loads(text)
