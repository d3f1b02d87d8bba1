"""Which units of a sub-layer to keep, once it is known what the projection can make up for.

Legend as in ``_least_squares``. The surgeon's rule on groups of columns (in the spirit of optimal
brain surgeon; arXiv 2302.04089 does it for filters and heads): with H = G + λI and W at its least
squares, taking out the columns S of one unit and refitting the others raises the error by
    tr(W_S · ((H⁻¹)_SS)⁻¹ · W_Sᵀ),
and leaves W ← W − W_S·((H⁻¹)_SS)⁻¹·(H⁻¹)_S: and H⁻¹ ← H⁻¹ − (H⁻¹)_:S·((H⁻¹)_SS)⁻¹·(H⁻¹)_S:.
"""

from __future__ import annotations

import torch

from trimtab_strategies.fisher._least_squares import NormalEquations

AT_ONCE, POOL = 16, 64
"""How many units go between two updates of everything, and from how many candidates.

Among the candidates the rule is followed one by one, on their own small part of H⁻¹, so that of two
units that stand in for each other only one goes; updating everything for each would be 16 times
the work.
"""


def choose_units(
    system: NormalEquations, width: int, count: int, ridge: float
) -> torch.Tensor | None:
    """Keeps the ``count`` units without which the refitted sub-layer would be furthest off.

    Args:
        system: the normal equations with every unit still there; comes back as it was.
        width: columns of one unit.
        count: how many units stay.
        ridge: as for the projection.

    Returns:
        Which units stay, [K] of bool; None where the equations are not finite.
    """
    weight, inverse = _start(system, ridge)
    if not bool(torch.isfinite(weight).all() and torch.isfinite(inverse).all()):
        return None
    left = torch.arange(weight.shape[1] // width, device=weight.device)
    kept = torch.zeros_like(left, dtype=torch.bool)
    while (surplus := len(left) - count) > 0:
        pool = _errors(weight, inverse, width).argsort()[:POOL]
        columns = _columns(pool, width)
        small = weight[:, columns], inverse[columns][:, columns]
        out = pool[_one_by_one(*small, width, min(AT_ONCE, surplus))]
        weight, inverse, stays = _without(weight, inverse, out, width)
        left = left[stays]
    kept[left] = True
    return kept


def _one_by_one(
    weight: torch.Tensor, inverse: torch.Tensor, width: int, count: int
) -> torch.Tensor:
    """Gives the units that go first, in order, by the rule without shortcuts."""
    left = torch.arange(weight.shape[1] // width, device=weight.device)
    gone = []
    for _ in range(count):
        worst = _errors(weight, inverse, width).argmin(dim=0, keepdim=True)
        gone.append(left[worst])
        weight, inverse, stays = _without(weight, inverse, worst, width)
        left = left[stays]
    return torch.cat(gone)


def _without(
    weight: torch.Tensor, inverse: torch.Tensor, units: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gives W and H⁻¹ of the units that stay when these go and they are refitted, and which."""
    stays = weight.new_ones(weight.shape[1] // width, dtype=torch.bool)
    stays[units] = False
    out, rest = _columns(units, width), _columns(torch.nonzero(stays)[:, 0], width)
    across = inverse[out][:, rest]
    step = torch.linalg.solve(inverse[out][:, out], across)
    weight = weight[:, rest].addmm(weight[:, out], step, alpha=-1)
    inverse = inverse[rest][:, rest].addmm(across.T, step, alpha=-1)
    return weight, inverse, stays


def _columns(units: torch.Tensor, width: int) -> torch.Tensor:
    return (units[:, None] * width + torch.arange(width, device=units.device)).flatten()


def _start(system: NormalEquations, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gives the least squares weight with every unit, and H⁻¹."""
    damping = system.damping(ridge)
    damped = system.units.clone()
    damped.diagonal().add_(damping)
    inverse = torch.linalg.inv(damped)
    return (inverse @ (system.cross + damping * system.weight.T)).T, inverse


def _errors(weight: torch.Tensor, inverse: torch.Tensor, width: int) -> torch.Tensor:
    if width == 1:
        return (weight * weight).sum(dim=0) / inverse.diagonal()
    n_units = weight.shape[1] // width
    groups = inverse.view(n_units, width, n_units, width)
    own = groups.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # [K, w, w]
    parts = weight.view(-1, n_units, width).permute(1, 2, 0)  # [K, w, d]
    errors: torch.Tensor = (parts * torch.linalg.solve(own, parts)).sum(dim=(1, 2))
    return errors
