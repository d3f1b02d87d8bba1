"""The contract of a strategy: what it lets the search choose, what it costs, how it is applied.

This module is free of torch, so that a spec can be validated and a plan drawn without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from trimtab_strategies.cost import EncoderShape, LengthHistogram

if TYPE_CHECKING:
    import torch

    from trimtab_strategies.elastic import TrimtabForSequenceClassification

Value = bool | int | float | str
Slot = Literal["units", "tokens", "layers"]
Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; cheap, may be called for every batch."""

PRICES = "prices"
"""What units were measured to cost in time, as it stands beside the choices of a step that counts
in it; see ``fisher/prices.py``."""


@dataclass(frozen=True)
class Choice:
    """One training-time choice of a strategy, with everything the search needs to know of it.

    Either ``values`` lists what may be chosen, or ``low`` and ``high`` (both included) bound a
    float. A choice with ``requires`` exists only where the named other choice has that value, one
    with ``unless`` only where it has another. One that ``counts_rows`` is a number of training
    rows: values past the rows there are say nothing. ``before`` is what was done, without asking,
    in versions that did not have this choice. ``anchors`` are values that are worth an early trial
    beside the default, since they cost little or tell much. ``timed`` are values that exist
    only where latency is budgeted: a step with one of them is given ``PRICES`` as well.

    Raises:
        ValueError: if the default is not among the values or outside the range.
    """

    name: str
    default: Value
    help: str
    values: tuple[Value, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    requires: tuple[tuple[str, Value], ...] = ()
    unless: tuple[tuple[str, Value], ...] = ()
    counts_rows: bool = False
    before: Value | None = None
    anchors: tuple[Value, ...] = ()
    timed: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if (self.values is None) == (self.low is None or self.high is None):
            raise ValueError(f"choice {self.name!r} must have either values or low and high")
        if not self.admits(self.default):
            raise ValueError(f"the default of choice {self.name!r} must be one it admits")

    def admits(self, value: object) -> bool:
        """Tells whether ``value`` may be chosen; ``1`` is not ``True`` here."""
        if self.values is not None:
            return any(type(value) is type(v) and value == v for v in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        assert self.low is not None and self.high is not None
        return self.low <= value <= self.high

    def is_active(self, choices: Mapping[str, Value]) -> bool:
        """Tells whether this choice exists beside the other ``choices``."""
        return all(choices.get(name) == value for name, value in self.requires) and all(
            choices.get(name) != value for name, value in self.unless
        )


@dataclass(frozen=True)
class CostRange:
    """The mean FLOPs per sample that a strategy can reach on one model and workload."""

    low_flops: float
    high_flops: float


class MakeBatches(Protocol):
    """Makes batches of training rows, those of one batch of near-equal length."""

    def __call__(
        self, stop: int, batch_size: int, start: int = 0
    ) -> Sequence[Mapping[str, torch.Tensor]]:
        """Gives the rows from ``start`` to ``stop`` of one seeded order, sorted by length."""


@dataclass(frozen=True)
class Calibration:
    """The training rows that a strategy may look at, already tokenised.

    ``batches(stop, batch_size)`` takes the first ``stop`` rows, so that a larger calibration set
    contains every smaller one. Each batch is a dict of tensors on the model's device:
    ``input_ids``, ``attention_mask`` and ``labels``, with ``token_type_ids`` where the model has
    them. ``unlabeled`` makes batches of ``n_unlabeled`` further rows, in which ``labels`` means
    nothing.
    """

    n_rows: int
    histogram: LengthHistogram
    batches: MakeBatches
    n_unlabeled: int = 0
    unlabeled: MakeBatches | None = None


@dataclass(frozen=True)
class Variant:
    """One compressed model that a strategy made, with the choices that make it again."""

    model: TrimtabForSequenceClassification
    choices: Mapping[str, Value]
    notes: Mapping[str, Any] = field(default_factory=dict)


class Strategy(ABC):
    """One way to make a Transformer cheaper.

    A strategy is stateless; one instance serves every trial. ``name`` is the word in specs and
    recipes. ``version`` is part of every artifact's name: raise it when the same inputs give
    another result, so that old artifacts are not mistaken for new ones.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    summary: ClassVar[str]
    choices: ClassVar[tuple[Choice, ...]]
    slot: ClassVar[Slot]
    """What it takes away; of strategies that take the same, a recipe has at most one."""
    aims: ClassVar[bool] = False
    """Whether it can aim at a cost: then ``apply`` yields a variant for every rung."""
    statistics_choices: ClassVar[tuple[str, ...]] = ()
    """The names of the choices that ``prepare`` depends on."""
    bounding_choices: ClassVar[tuple[str, ...]] = ()
    """The names of the choices that ``least_flops`` depends on; each has ``values``."""

    def passes(self, choices: Mapping[str, Value]) -> float:
        """Tells how much training ``apply`` does, in forward passes over every training row.

        A step forward and back counts as three. Called by ``plan``; must not import torch.
        """
        return 0.0

    @abstractmethod
    def reach(self, shape: EncoderShape, histogram: LengthHistogram) -> CostRange:
        """Tells what costs can be reached, before anything is trained or measured.

        The low end is a bound: no choice, no knob and no training gets below it. It bounds
        combinations, too: of a model that others made cheaper this takes away no larger share than
        of the dense one, at any length. What may then be over the budget is never tried, so a bound
        that is too low costs time, and one that is too high costs recipes.
        Called by ``plan`` and before a search; must not import torch.
        """

    def least_flops(
        self, shape: EncoderShape, histogram: LengthHistogram, choices: Mapping[str, Value]
    ) -> float:
        """Tells what can be reached at least with some ``bounding_choices``.

        A bound as the low end of ``reach`` is, whatever is not among the choices; that one is given
        unless a strategy knows more. Must not import torch.
        """
        return self.reach(shape, histogram).low_flops

    def prepare(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        progress: Progress,
    ) -> Mapping[str, torch.Tensor] | None:
        """Measures what every later ``apply`` with the same ``statistics_choices`` can share.

        The tensors returned are kept as an artifact of their own and handed to ``apply``, also in
        other trials, studies and after other budgets. ``model`` must come back unchanged.
        """
        return None

    @abstractmethod
    def apply(
        self,
        model: TrimtabForSequenceClassification,
        calibration: Calibration,
        choices: Mapping[str, Value],
        statistics: Mapping[str, torch.Tensor] | None,
        ladder: Sequence[float],
        progress: Progress,
    ) -> Iterator[Variant]:
        """Yields compressed copies of ``model``; called by a worker, once per recipe.

        ``ladder`` holds the costs wanted, as fractions of ``model``'s own mean FLOPs on the
        calibration's histogram; where the choices count in time, that of a model sliced evenly to
        such a fraction is meant. A strategy that can aim at a cost yields one variant for each,
        never over it; one that cannot yields a single variant. ``model`` must not be changed.
        """


def is_timed(strategy: Strategy, choices: Mapping[str, Value]) -> bool:
    """Tells whether a step with these choices counts in time, so that it needs ``PRICES``."""
    return any(choices.get(choice.name) in choice.timed for choice in strategy.choices)


def default_choices(strategy: Strategy) -> dict[str, Value]:
    """Gives the published or recommended setting of every active choice."""
    return active_choices(strategy, {choice.name: choice.default for choice in strategy.choices})


def completed(strategy: Strategy, choices: Mapping[str, Value]) -> dict[str, Value]:
    """Adds every active choice that ``choices``, of an earlier version maybe, do not name."""
    unnamed = {c.name: c.default if c.before is None else c.before for c in strategy.choices}
    return active_choices(strategy, {**unnamed, **choices})


def active_choices(strategy: Strategy, choices: Mapping[str, Value]) -> dict[str, Value]:
    """Drops the choices that have no meaning beside the others, so that equal work has one name."""
    return {c.name: choices[c.name] for c in strategy.choices if c.is_active(choices)}
