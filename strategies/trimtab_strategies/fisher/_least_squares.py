"""Least squares for one sub-layer: its outputs brought back to what the dense model gives.

Legend, for one sub-layer with K units of width w (heads: w = d_h, filters: w = 1):
    u  [tokens, K·w]  what the units put out (contexts, or activations)
    W  [d, K·w]       the projection behind them
    b  [tokens, d]    what they should give together: the dense model's output before the norm,
                      without the student's own residual and without the projection's bias
Both kinds of tuning need only G = uᵀu and C = uᵀb, which are summed batch by batch, so that memory
does not grow with the number of tokens.

Scales (the paper's ridge, §4.3), one factor a unit, m = 1 + r, with A_i = u_i·W_iᵀ flattened:
    minimise ‖A·m − b‖² + λ‖r‖²,   (AᵀA + λI)·r = Aᵀ(b − A·1)
    AᵀA = blocks of G ∘ (WᵀW), summed over w×w;   Aᵀb = C ∘ Wᵀ, summed over d and w.
Projection (in the spirit of K-prune, arXiv 2308.03449), the whole of W, held towards the old one:
    minimise ‖u·Vᵀ − b‖² + λ‖V − W‖²,   (G + λI)·(V − W)ᵀ = C − G·Wᵀ
    with λ = ridge · the mean of G's diagonal, so that ridge has no unit.
"""

from __future__ import annotations

import torch

BLOCK = 256
"""Columns of G that are made together; only those on and right of the diagonal are."""
LARGEST_FACTOR = 10.0
"""Factors beyond ±10 are a sign of an ill-posed system; the paper's code discards them."""


class NormalEquations:
    """G and C of one sub-layer, summed in double precision."""

    def __init__(self, projection: torch.nn.Linear) -> None:
        self._bias = projection.bias.detach()
        self.weight = _wide(projection.weight.detach())
        n_outputs, n_inputs = self.weight.shape
        self._upper = self.weight.new_zeros(n_inputs, n_inputs)
        self.cross = self.weight.new_zeros(n_inputs, n_outputs)

    def add(self, units: torch.Tensor, goal: torch.Tensor) -> None:
        """Adds tokens: ``units`` [tokens, K·w] and ``goal`` [tokens, d], the bias still in it."""
        for first in range(0, units.shape[1], BLOCK):
            rows = units[:, first : first + BLOCK].T @ units[:, first:]
            self._upper[first : first + BLOCK, first:] += _wide(rows)
        self.cross += _wide(units.T @ (goal - self._bias))

    @property
    def units(self) -> torch.Tensor:
        """G, whole."""
        return torch.triu(self._upper) + torch.triu(self._upper, 1).T

    def keep(self, columns: torch.Tensor) -> None:
        """Forgets all inputs of the projection but these."""
        self.weight = self.weight[:, columns]
        self._upper = self.units[columns][:, columns]
        self.cross = self.cross[columns]

    def scale_equations(self, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives AᵀA [K, K] and Aᵀb [K]."""
        n_units = self.weight.shape[1] // width
        blocks = (self.units * (self.weight.T @ self.weight)).view(n_units, width, n_units, width)
        shares = (self.cross * self.weight.T).sum(dim=1).view(n_units, width)
        return blocks.sum(dim=(1, 3)), shares.sum(dim=1)

    def scales(self, width: int, damping: float) -> torch.Tensor | None:
        """Gives the factors m [K], or None when they are not finite or leave ±10."""
        matrix, shares = self.scale_equations(width)
        change = _solved(matrix, damping, (shares - matrix.sum(dim=1))[:, None])
        if change is None or (1 + change).abs().max() > LARGEST_FACTOR:
            return None
        return 1 + change[:, 0]

    def projection(self, ridge: float) -> torch.Tensor | None:
        """Gives the new weight V [d, K·w], or None when it is not finite."""
        units = self.units
        change = _solved(units, self.damping(ridge), self.cross - units @ self.weight.T)
        return None if change is None else self.weight + change.T

    def damping(self, ridge: float) -> float:
        """Turns a ridge without unit into λ; never 0, so that idle units do no harm."""
        return ridge * float(self._upper.diagonal().mean()) + torch.finfo(torch.float32).tiny


def _wide(values: torch.Tensor) -> torch.Tensor:
    """Doubles, on the device where it has them."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _solved(matrix: torch.Tensor, damping: float, right: torch.Tensor) -> torch.Tensor | None:
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed):
        return None
    solution = torch.cholesky_solve(right, factor)
    return solution if bool(torch.isfinite(solution).all()) else None
