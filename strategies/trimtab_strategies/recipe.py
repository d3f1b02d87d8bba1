"""Recipes: ordered steps of strategy and choices, and the keys that name what they make.

A key is a hash of everything that decides a result, so equal keys mean equal work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from trimtab_strategies.base import PRICES, Value, default_choices


@dataclass(frozen=True)
class Step:
    """One strategy with its choices, in a recipe."""

    strategy: str
    choices: tuple[tuple[str, Value], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # For each proposal all recipes that were tried are looked at.
        return hash((self.strategy, self.choices))

    def __reduce__(self) -> tuple[Any, ...]:
        return Step, (self.strategy, self.choices)  # as each process hashes in its own way

    @classmethod
    def of(cls, strategy: str, choices: Mapping[str, Value]) -> Step:
        """Builds a step whose choices are in one canonical order."""
        return cls(strategy, tuple(_choice(*chosen) for chosen in sorted(choices.items())))

    @property
    def choices_dict(self) -> dict[str, Value]:
        """The choices as a mapping."""
        return dict(self.choices)

    def with_choices(self, **more: Value) -> Step:
        """Gives the same step with further choices, such as the rung of a ladder."""
        return Step.of(self.strategy, {**self.choices_dict, **more})


# A long search keeps thousands of recipes, whose choices are mostly the same few.
@lru_cache(maxsize=4096, typed=True)
def _choice(name: str, value: Value) -> tuple[str, Value]:
    return name, value


Recipe = tuple[Step, ...]


def to_plain(recipe: Sequence[Step]) -> list[dict[str, Any]]:
    """Gives a recipe as JSON-able values, as it stands in tables and output."""
    return [{"strategy": step.strategy, "choices": step.choices_dict} for step in recipe]


def from_plain(plain: Sequence[Mapping[str, Any]]) -> Recipe:
    """Reads a recipe back from its plain values."""
    return tuple(Step.of(step["strategy"], step["choices"]) for step in plain)


def stable_key(*parts: Any) -> str:
    """Names JSON-able parts by 32 hexadecimal digits that are the same in every process."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def describe(plain: Sequence[Mapping[str, Any]], knobs: Mapping[str, Any] | None = None) -> str:
    """Writes a plain recipe on one line, for tables: ``fisher(calibration=512, …)``.

    Of several steps only what is not as recommended is shown: ``fisher(constraint=0.6) + ltp``.
    Measured prices are left out. The knobs follow: ``… at tau=0.3``.
    """
    if not plain:
        return "dense"
    steps = [_shown(step, in_full=len(plain) == 1) for step in plain]
    return " + ".join(steps) + (f" at {_listed(knobs)}" if knobs else "")


def _shown(step: Mapping[str, Any], *, in_full: bool) -> str:
    choices = {name: value for name, value in step["choices"].items() if name != PRICES}
    if not in_full:
        from trimtab_strategies import registry

        known = step["strategy"] in registry.names()
        usual = default_choices(registry.get(step["strategy"])) if known else {}
        choices = {name: v for name, v in choices.items() if usual.get(name) != v}
    return f"{step['strategy']}({_listed(choices)})" if choices else str(step["strategy"])


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
