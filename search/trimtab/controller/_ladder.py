"""Which costs a recipe is made at: the budget itself and a few round fractions about it."""

from __future__ import annotations

GRID = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Round fractions of the baseline: the same for every budget, so that another budget finds most
of what it needs already measured."""

RUNGS_ABOVE, RUNGS_BELOW = 1, 2
"""More below than above: a recipe whose drop is small at the budget may allow to spend less."""

TOO_NEAR = 0.03
"""A grid rung this near to the budget would tell nothing that the budget's own rung does not."""

DIGITS = 6


def ladder(budget_ratio: float | None) -> tuple[float, ...]:
    """Gives the costs to try, as fractions of the baseline's FLOPs, from high to low.

    Without a budget on FLOPs, or with one that the baseline meets, the ladder starts at the top of
    the grid.
    """
    if budget_ratio is None or budget_ratio >= 1:
        return GRID[: RUNGS_ABOVE + RUNGS_BELOW + 1]
    above = [rung for rung in GRID if rung > budget_ratio + TOO_NEAR][-RUNGS_ABOVE:]
    below = [rung for rung in GRID if rung < budget_ratio - TOO_NEAR][:RUNGS_BELOW]
    return (*above, _rounded(budget_ratio), *below)


def budget_rung(budget_ratio: float | None) -> float | None:
    """Gives the rung that spends the budget exactly, or None where there is none to spend."""
    if budget_ratio is None or budget_ratio >= 1:
        return None
    return _rounded(budget_ratio)


def _rounded(budget_ratio: float) -> float:
    """Gives a rung with few digits, as it stands in recipes; never above the budget."""
    nearest = round(budget_ratio, DIGITS)
    return nearest if nearest <= budget_ratio else round(nearest - 10.0**-DIGITS, DIGITS)
