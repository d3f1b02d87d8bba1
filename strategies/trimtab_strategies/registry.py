"""Strategies by name. Adding one is a folder, a class and one line here."""

from __future__ import annotations

from trimtab_strategies.acc import AccStrategy
from trimtab_strategies.base import Strategy
from trimtab_strategies.early_exit import EarlyExitStrategy
from trimtab_strategies.fisher import FisherStrategy
from trimtab_strategies.ltp import LtpStrategy

_STRATEGIES: dict[str, Strategy] = {}


def register(strategy: Strategy) -> None:
    """Makes a strategy known under its name.

    Raises:
        ValueError: if the name is taken or not lower case.
    """
    if strategy.name != strategy.name.lower():
        raise ValueError(f"a strategy's name must be lower case, but got {strategy.name!r}")
    if strategy.name in _STRATEGIES:
        raise ValueError(f"strategy {strategy.name!r} is registered already; choose another name")
    _STRATEGIES[strategy.name] = strategy


def get(name: str) -> Strategy:
    """Gives the strategy of that name.

    Raises:
        KeyError: if there is none; the message lists those there are.
    """
    try:
        return _STRATEGIES[name]
    except KeyError:
        raise KeyError(f"no strategy {name!r}; there are: {', '.join(names())}") from None


def names() -> tuple[str, ...]:
    """Lists the names of all strategies, in the order in which they may follow each other."""
    return tuple(_STRATEGIES)


register(FisherStrategy())
register(LtpStrategy())
register(AccStrategy())
register(EarlyExitStrategy())
