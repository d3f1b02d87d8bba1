"""Which strategies a search may use, and what it may choose for them.

A strategy declares its choices once, where it is implemented; a spec may pin a choice to one value
or narrow it to a list. The declarations are only read here, so a new strategy needs no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trimtab.spec._planned import check_word
from trimtab.spec._words import did_you_mean, listing, show
from trimtab.spec.errors import FieldError, FieldErrors, KeyPath
from trimtab_strategies.base import Choice, Value

_MAX_PINNED = 64


@dataclass(frozen=True)
class StrategyEntry:
    """A strategy that the search may use.

    ``pins`` holds the values left to each choice that the spec pins or narrows; choices that are
    not in it are free.
    """

    name: str
    pins: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def to_plain(self) -> str | dict[str, Any]:
        """Gives the entry as it stands in a spec."""
        if not self.pins:
            return self.name
        return {self.name: {k: v[0] if len(v) == 1 else list(v) for k, v in self.pins.items()}}


def known_strategies() -> tuple[str, ...]:
    """Lists the strategies of this version."""
    from trimtab_strategies import registry

    return registry.names()


def every_strategy() -> tuple[StrategyEntry, ...]:
    """Gives the default: all strategies, every choice free."""
    return tuple(StrategyEntry(name) for name in known_strategies())


def parse_entry(value: Any) -> StrategyEntry:
    """Reads ``fisher`` or ``{fisher: {calibration: [256, 512]}}``.

    Raises:
        FieldError: for an unknown strategy or another form.
        FieldErrors: for choices that the strategy does not have or admit.
    """
    if isinstance(value, StrategyEntry):
        return value
    if isinstance(value, str):
        return StrategyEntry(check_word("strategy", value, known_strategies()))
    if not isinstance(value, dict) or len(value) != 1:
        raise FieldError(
            f"must be a strategy or one strategy with its choices, but got {show(value)}",
            "write `fisher` or `{fisher: {calibration: 512}}`",
        )
    [(name, choices)] = value.items()
    if not isinstance(name, str):
        raise FieldError(f"must be a strategy's name, but got {show(name)}")
    return StrategyEntry(_strategy_key(name), _parse_choices(name, choices))


def _strategy_key(name: str) -> str:
    try:
        return check_word("strategy", name, known_strategies())
    except FieldError as fault:
        raise FieldError(fault.message, fault.hint, at=(name,), at_key=True) from None


def _parse_choices(strategy: str, choices: Any) -> dict[str, tuple[Value, ...]]:
    from trimtab_strategies import registry

    if not isinstance(choices, dict) or not choices:
        raise FieldError(
            f"must be a mapping from choice to value, but got {show(choices)}",
            f"write just `{strategy}` to leave every choice free",
            at=(strategy,),
        )
    declared = {choice.name: choice for choice in registry.get(strategy).choices}
    pins: dict[str, tuple[Value, ...]] = {}
    faults: list[FieldError] = []
    for name, value in choices.items():
        at: KeyPath = (strategy, name)
        if name not in declared:
            faults.append(_unknown_choice(strategy, name, declared))
            continue
        try:
            pins[name] = tuple(_parse_values(declared[name], value, at))
        except FieldError as fault:
            faults.append(fault)
    faults.extend(_pointless(strategy, declared, pins))
    if faults:
        raise FieldErrors(faults)
    return {choice: pins[choice] for choice in declared if choice in pins}


def check_untimed(entries: Sequence[StrategyEntry]) -> None:
    """Checks that no choice is pinned to what exists only beside a latency budget.

    Raises:
        FieldError: leading to the choice from the whole spec.
    """
    from trimtab_strategies import registry

    for index, entry in enumerate(entries):
        for choice in registry.get(entry.name).choices:
            pinned = entry.pins.get(choice.name, ())
            if pinned and set(pinned) <= set(choice.timed):
                raise FieldError(
                    f"must not be {show(pinned[0])} alone where no latency is budgeted",
                    "leave it out, or add `budget.latency`",
                    at=("search", "strategies", index, entry.name, choice.name),
                )


def _unknown_choice(strategy: str, name: Any, declared: Mapping[str, Choice]) -> FieldError:
    return FieldError(
        f"must be a choice of `{strategy}` ({listing(declared)})",
        did_you_mean(name, declared),
        at=(strategy, name if isinstance(name, str) else show(name)),
        at_key=True,
    )


def _parse_values(choice: Choice, value: Any, at: KeyPath) -> Iterator[Value]:
    """Gives the distinct values in canonical order, so that equal narrowings are equal."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not 1 <= len(values) <= _MAX_PINNED:
        raise FieldError(f"must have 1 to {_MAX_PINNED} values, but got {len(values)}", at=at)
    for index, one in enumerate(values):
        if not choice.admits(one):
            place = (*at, index) if isinstance(value, list | tuple) else at
            raise FieldError(f"must be {_admitted(choice)}, but got {show(one)}", at=place)
    if choice.values is None:
        yield from sorted({float(one) for one in values})
    else:
        yield from (v for v in choice.values if any(type(v) is type(o) and v == o for o in values))


def _admitted(choice: Choice) -> str:
    if choice.values is None:
        return f"a number from {choice.low:g} to {choice.high:g}"
    return f"one of {', '.join(show(value).strip('`') for value in choice.values)}"


def _pointless(
    strategy: str, declared: Mapping[str, Choice], pins: Mapping[str, tuple[Value, ...]]
) -> Iterator[FieldError]:
    """Finds pinned choices that cannot exist beside the other pinned ones."""
    for name in pins:
        for other, needed in declared[name].requires:
            if other in pins and needed not in pins[other]:
                yield FieldError(
                    f"must be left out here: it exists only where `{other}` is {show(needed)}",
                    at=(strategy, name),
                    at_key=True,
                )
        for other, excluded in declared[name].unless:
            if pins.get(other) == (excluded,):
                yield FieldError(
                    f"must be left out here: it does not exist where `{other}` is {show(excluded)}",
                    at=(strategy, name),
                    at_key=True,
                )
