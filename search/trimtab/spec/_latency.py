"""How long a request may take, and what is timed for it: the section ``budget.latency``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from trimtab.spec._fields import NUMBER_PATTERN, Section, quantity
from trimtab.spec._words import listing, show
from trimtab.spec.errors import FieldError
from trimtab.spec.units import Latency, Throughput

Device = Literal["auto", "cpu", "cuda"]
Statistic = Literal["p50", "p95", "mean"]

MOST_LENGTHS = 512
LIMITED = ("p50", "p95", "mean", "throughput")
"""What a budget may limit, one or several of them; the first given is the main one."""

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
    """How long a request may take, by one or more statistics of many, and what is timed."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name]} for name in LIMITED],
            "not": {"required": ["mean", "throughput"]},
        }
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
    def _check_any_limit(self) -> Self:
        if not self.limits:
            raise FieldError(f"must have one of {listing(LIMITED)}", "write `p95: 8 ms`")
        return self

    @property
    def limits(self) -> tuple[LatencyLimit, ...]:
        """What is limited, in the order of ``LIMITED`` however it was written."""
        given = [(name, getattr(self, name)) for name in LIMITED]
        return tuple(LatencyLimit(name, bound, self) for name, bound in given if bound is not None)

    @property
    def names_device(self) -> bool:
        """Whether it says itself where requests are timed."""
        return self.device not in (None, "auto")

    @property
    def statistic(self) -> Statistic:
        """What of many requests is limited first."""
        return self.limits[0].statistic

    @property
    def bound(self) -> Latency | Throughput:
        """The first limit as it was given."""
        return self.limits[0].bound

    def limit(self, baseline_ms: float) -> float:
        """Gives the first limit in ms, given the baseline's own value of its statistic."""
        return self.limits[0].ms(baseline_ms)


@dataclass(frozen=True)
class LatencyLimit:
    """One limit of a budget on latency, under the ``name`` that it has in a spec."""

    name: str
    bound: Latency | Throughput
    budget: LatencyBudget

    @property
    def statistic(self) -> Statistic:
        """What of many requests is limited; a throughput is a limit on their mean."""
        names: dict[str, Statistic] = {"p50": "p50", "p95": "p95"}
        return names.get(self.name, "mean")

    @property
    def is_relative(self) -> bool:
        """Whether the limit is a share of the baseline's.

        Then a ratio is asked for, and that is measured in pairs whatever the machine's speed; a
        limit in milliseconds is about the time that passes.
        """
        return self.bound.ratio is not None

    def ms(self, baseline_ms: float) -> float:
        """Gives the largest value of the statistic in ms, given the baseline's own."""
        if isinstance(self.bound, Throughput):
            return self.bound.limit(baseline_ms, self.budget.batch_size)
        return self.bound.limit(baseline_ms)
