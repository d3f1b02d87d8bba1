"""When a search may end early: the section ``search.stop`` and its quantity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import Field

from trimtab.spec._fields import NUMBER_PATTERN, Section, quantity
from trimtab.spec._number import bare_number, check_range, exact, plain, scaled, split_quantity
from trimtab.spec._words import show
from trimtab.spec.errors import UnitError

_FORM = "a percentage with its sign (`1%`)"
_BOUNDS = (0.0001, 1.0, "from 0.01% to 100%")
GAIN_PATTERN = rf"^\s*{NUMBER_PATTERN}\s*%\s*$"


@dataclass(frozen=True)
class Share:
    """A part of something, as a fraction of it: 0.01 is ``1%``."""

    ratio: float

    def __post_init__(self) -> None:
        check_range(self.ratio, *_BOUNDS, str(self))

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Reads ``1%``.

        Raises:
            UnitError: for anything else.
        """
        bare = bare_number(value)
        if bare is not None:
            raise UnitError(f"must be {_FORM}, but got {show(value)}", _hint(abs(bare)))
        found = split_quantity(value)
        if found is None or found[1] != "%":
            raise UnitError(f"must be {_FORM}, but got {show(value)}")
        if found[0].is_signed() and found[0]:
            raise UnitError(f"must not be negative, but got {show(value)}")
        return cls(scaled(found[0], Decimal("0.01")))

    def __str__(self) -> str:
        return f"{plain(exact(self.ratio) * 100)}%"


def _hint(number: Decimal) -> str:
    # Below a tenth a fraction was probably meant: nobody waits for a thousandth.
    meant = number * 100 if number < Decimal("0.1") else number
    return f"write `{plain(meant) if 0 < meant <= 100 else 1}%`"


def _share(value: Any) -> Share:
    return value if isinstance(value, Share) else Share.parse(value)


GainField = Annotated[Share, *quantity(_share, GAIN_PATTERN, ["1%", "0.5%"])]

DEFAULT_GAIN = Share(0.01)


class Stop(Section):
    """When to start no more trials: after ``patience`` trials that together gained too little."""

    gain: GainField = Field(
        default=DEFAULT_GAIN,
        description="The least that `patience` trials must add to the frontier's hypervolume, "
        "relative to what it was before them.",
    )
    patience: int = Field(
        default=10, ge=1, le=10_000, description="How many of the latest trials are looked at."
    )
