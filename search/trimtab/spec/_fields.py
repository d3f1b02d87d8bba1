"""The types of a spec's fields: how pydantic reads them, prints them and describes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from trimtab.spec._planned import check_word
from trimtab.spec._strategies import StrategyEntry, parse_entry
from trimtab.spec._words import show
from trimtab.spec.errors import FieldError
from trimtab.spec.references import (
    Surroundings,
    settle_dataset,
    settle_model,
    settle_path,
    settle_text_file,
)
from trimtab.spec.units import Drop, Duration, Flops

NUMBER_PATTERN = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?"
FLOPS_PATTERN = rf"^\s*{NUMBER_PATTERN}\s*(%|[TtGgMmKk]?[Ff][Ll][Oo][Pp][Ss]?)\s*$"
DROP_PATTERN = rf"^\s*{NUMBER_PATTERN}\s*(%|[Pp][Tt][Ss]?|[Pp][Oo][Ii][Nn][Tt][Ss]?)\s*$"
DURATION_PATTERN = rf"^\s*{NUMBER_PATTERN}\s*(ms|s|sec|seconds?|min|minutes?|h|hours?)\s*$"


class Section(BaseModel):
    """A mapping of the spec: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    internal: ClassVar[frozenset[str]] = frozenset()
    """Fields that have no key of their own in a spec."""


def quantity(parse: Callable[[Any], Any], pattern: str, examples: list[str]) -> tuple[Any, ...]:
    """Gives the annotations that make a unit's value a field."""
    return (
        PlainValidator(parse),
        PlainSerializer(str, return_type=str),
        WithJsonSchema({"type": "string", "pattern": pattern, "examples": examples}),
    )


def _flops(value: Any) -> Flops:
    return value if isinstance(value, Flops) else Flops.parse(value)


def _drop(value: Any) -> Drop:
    return value if isinstance(value, Drop) else Drop.parse(value)


def duration_between(shortest: str, longest: str) -> Callable[[Any], Duration]:
    """Makes a reader of durations within bounds, both included."""
    low, high = Duration.parse(shortest), Duration.parse(longest)

    def parse(value: Any) -> Duration:
        span = value if isinstance(value, Duration) else Duration.parse(value)
        if not low.seconds <= span.seconds <= high.seconds:
            raise FieldError(f"must be from {shortest} to {longest}, but got {show(str(value))}")
        return span

    return parse


FlopsField = Annotated[Flops, *quantity(_flops, FLOPS_PATTERN, ["40%", "1.2 GFLOPs"])]
DropField = Annotated[Drop, *quantity(_drop, DROP_PATTERN, ["1 pt", "1%"])]
TimeField = Annotated[
    Duration, *quantity(duration_between("1 s", "8760 h"), DURATION_PATTERN, ["30 min", "2 h"])
]


def around(info: ValidationInfo) -> Surroundings:
    """Gives what references are settled against: the working directory where nothing is said."""
    return info.context if isinstance(info.context, Surroundings) else Surroundings(Path.cwd())


def _settled(settle: Callable[[str, Surroundings], str]) -> PlainValidator:
    def check(value: Any, info: ValidationInfo) -> str:
        return settle(text(str(value) if isinstance(value, Path) else value), around(info))

    return PlainValidator(check, json_schema_input_type=str)


def _named_file(value: Any) -> Any:
    if not isinstance(value, str | Path):
        raise FieldError(f"must be a file, but got {show(value)}")
    return value


ModelField = Annotated[str, _settled(settle_model)]
DatasetField = Annotated[str, _settled(settle_dataset)]
TextFileField = Annotated[str, _settled(settle_text_file), BeforeValidator(_named_file)]
PathField = Annotated[str, _settled(settle_path)]


def text(value: Any) -> str:
    """Refuses what is not text; YAML reads an unquoted 12 as a number.

    Raises:
        FieldError: telling how that very value is written as text.
    """
    if isinstance(value, str) and value.strip():
        return value
    is_scalar = isinstance(value, bool | int | float) and len(show(value)) < 40
    raise FieldError(
        f"must be text, but got {show(value)}", f'write `"{show(value)}"`' if is_scalar else None
    )


def number(value: Any) -> float:
    """Refuses what is not a finite number.

    Raises:
        FieldError: telling what came.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < 1e30 or not math.isfinite(value):
        raise FieldError(f"must be a plain number, but got {show(value)}")
    return float(value)


def words(concept: str, built: tuple[str, ...]) -> BeforeValidator:
    """Checks a word of the spec's vocabulary, telling planned words from unknown ones."""
    return BeforeValidator(lambda value: check_word(concept, text(value), built))


def matching(pattern: str, form: str) -> tuple[Any, ...]:
    """Gives the annotations of a text that must match ``pattern``, which ``form`` puts in words."""

    def check(value: Any) -> str:
        if not re.fullmatch(pattern.removesuffix("$"), text(value)):
            raise FieldError(f"must be {form}, but got {show(value)}")
        return str(value)

    return PlainValidator(check), WithJsonSchema({"type": "string", "pattern": pattern})


def _columns(value: Any) -> list[Any] | tuple[Any, ...]:
    """Takes one column's name for a list of one."""
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list | tuple) or not 1 <= len(columns) <= 2:
        raise FieldError(
            f"must be a list of one or two columns, but got {show(value)}", "write `[sentence]`"
        )
    return tuple(columns)


def _entries(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 64:
        raise FieldError(f"must be a list of strategies, but got {show(value)}", "write `[fisher]`")
    return tuple(value)


Text = Annotated[str, BeforeValidator(text)]
Number = Annotated[float, BeforeValidator(number)]
Columns = Annotated[
    tuple[Text, ...],
    BeforeValidator(_columns),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            ]
        }
    ),
]
StrategyField = Annotated[
    StrategyEntry, PlainValidator(parse_entry), PlainSerializer(StrategyEntry.to_plain)
]
Strategies = Annotated[tuple[StrategyField, ...], BeforeValidator(_entries)]
