"""How long a request may take, and what is timed for it: the section ``budget.latency``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from trimtab.spec._fields import NUMBER_PATTERN, Section, quantity
from trimtab.spec._words import listing, show
from trimtab.spec.errors import FieldError
from trimtab.spec.units import Latency, Throughput

Device = Literal["auto", "cpu", "cuda"]
Statistic = Literal["p50", "p95", "mean"]

MOST_LENGTHS = 512
LIMITED = ("p50", "p95", "mean", "throughput")
"""What a budget may limit, one of them."""

LATENCY_PATTERN = rf"^\s*{NUMBER_PATTERN}\s*(%|ms|s|sec|seconds?|min|minutes?|h|hours?)\s*$"
_RATE = (
    r"([Tt][Ee][Xx][Tt][Ss]?|[Ss][Aa][Mm][Pp][Ll][Ee][Ss]?)?\s*/\s*[Ss]([Ee][Cc]([Oo][Nn][Dd])?)?"
)
THROUGHPUT_PATTERN = rf"^\s*{NUMBER_PATTERN}\s*(%|[Xx]|{_RATE})\s*$"


def _latency(value: Any) -> Latency:
    return value if isinstance(value, Latency) else Latency.parse(value)


def _throughput(value: Any) -> Throughput:
    return value if isinstance(value, Throughput) else Throughput.parse(value)


def _lengths(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_LENGTHS:
        raise FieldError(
            f"must be a list of 1 to {MOST_LENGTHS} counts of tokens, but got {show(value)}",
            "write `[16, 32]`",
        )
    return tuple(value)


LatencyField = Annotated[Latency, *quantity(_latency, LATENCY_PATTERN, ["8 ms", "50%"])]
ThroughputField = Annotated[
    Throughput, *quantity(_throughput, THROUGHPUT_PATTERN, ["200/s", "2x", "200%"])
]
Length = Annotated[int, Field(ge=1, le=8192)]
Lengths = Annotated[
    tuple[Length, ...],
    BeforeValidator(
        _lengths,
        json_schema_input_type=Annotated[
            list[Length], Field(min_length=1, max_length=MOST_LENGTHS)
        ],
    ),
]


class LatencyBudget(Section):
    """How long a request may take, for one statistic of many requests, and what is timed."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in LIMITED]}
    )

    p50: LatencyField | None = Field(
        default=None,
        description="The most that the median request may take: `8 ms`, or `50%` of the "
        "baseline's median.",
    )
    p95: LatencyField | None = Field(
        default=None,
        description="The most that 95 of 100 requests may take: `8 ms`, or `50%` of the "
        "baseline's.",
    )
    mean: LatencyField | None = Field(
        default=None,
        description="The most that requests may take on average: `8 ms`, or `50%` of the "
        "baseline's.",
    )
    throughput: ThroughputField | None = Field(
        default=None,
        description="The least texts a second, one request after the other: `200/s`, or `2x` as "
        "many as the baseline.",
    )
    batch_size: int = Field(default=1, ge=1, le=4096, description="Texts of one request.")
    device: Device | None = Field(
        default=None, description="Where requests are timed; by default what the workers use."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads of a request; by default as many as there are.",
    )
    lengths: Lengths | None = Field(
        default=None,
        description="Tokens of the texts to imitate, each as often as it is listed: `[16, 64]`. By "
        "default the texts of `validation` as they are.",
    )

    @model_validator(mode="after")
    def _check_one_limit(self) -> Self:
        given = [name for name in LIMITED if getattr(self, name) is not None]
        if not given:
            raise FieldError(f"must have one of {listing(LIMITED)}", "write `p95: 8 ms`")
        if len(given) > 1:
            raise FieldError(
                f"must be left out where `{given[0]}` is given: a budget limits one of "
                f"{listing(LIMITED)}",
                "keep one",
                at=(given[1],),
                at_key=True,
            )
        return self

    @property
    def statistic(self) -> Statistic:
        """What of many requests is limited; a throughput is a limit on their mean."""
        if self.p50 is not None:
            return "p50"
        return "p95" if self.p95 is not None else "mean"

    @property
    def bound(self) -> Latency | Throughput:
        """The limit as it was given."""
        bound = self.p50 or self.p95 or self.mean or self.throughput
        assert bound is not None
        return bound

    def limit(self, baseline_ms: float) -> float:
        """Gives the largest value of the statistic in ms, given the baseline's own."""
        if isinstance(self.bound, Throughput):
            return self.bound.limit(baseline_ms, self.batch_size)
        return self.bound.limit(baseline_ms)


_ONE = TypeAdapter(tuple[LatencyBudget])


def _only_one(value: Any) -> Any:
    """Takes a list of one mapping for the mapping; what is wrong in it keeps its place."""
    if not isinstance(value, list | tuple):
        return value
    if len(value) > 1:
        raise FieldError(
            f"must be one mapping, but got {show(value)}: several latency budgets at once are "
            "not built yet",
            "keep one",
        )
    if not value:
        raise FieldError("must be a mapping, but got an empty list", "write `{p95: 8 ms}`")
    return _ONE.validate_python(tuple(value))[0]


LatencyBudgetField = Annotated[
    LatencyBudget,
    BeforeValidator(
        _only_one,
        json_schema_input_type=LatencyBudget
        | Annotated[list[LatencyBudget], Field(min_length=1, max_length=1)],
    ),
]


def check_workload(budget: LatencyBudget, workers_device: Device, max_length: int) -> None:
    """Checks a latency budget against the other sections of its spec.

    Raises:
        FieldError: leading to what is wrong from the whole spec.
    """
    if budget.device not in (None, "auto", workers_device) and workers_device != "auto":
        raise FieldError(
            f"must be what the workers use, which is `{workers_device}`, "
            f"but got {show(budget.device)}",
            "leave it out, or change `workers.device`",
            at=("budget", "latency", "device"),
        )
    for index, length in enumerate(budget.lengths or ()):
        if length > max_length:
            raise FieldError(
                f"must be at most {max_length}, where `max_length` cuts texts, but got {length}",
                at=("budget", "latency", "lengths", index),
            )
