"""What pictures of a search's course show: how the hypervolume grew, and which choices mattered.

Decided before any plotting library is involved, as for the frontier.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.importance import Importance
from trimtab.progress import BEYOND_MAX_DROP, Grown
from trimtab_storage import TrialState
from trimtab_strategies.recipe import describe

MOST_BARS, FEW_TRIALS = 12, 30
ENDLESS_S = float("inf")
_UNITS = ((300.0, 1.0, "s"), (5 * 3600.0, 60.0, "min"), (ENDLESS_S, 3600.0, "h"))


@dataclass(frozen=True)
class Step:
    """A trial in the picture's own units; ``text`` is escaped HTML."""

    x: float
    y: float
    has_grown: bool
    failed: bool
    text: str


@dataclass(frozen=True)
class Course:
    """How the hypervolume grew; ``last`` are the first and the last x of the trials judged."""

    title: str
    subtitle: str
    x_label: str
    steps: list[Step]
    last: tuple[float, float] | None
    last_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    y_label = "hypervolume, % of the most there could be"

    @property
    def end_label(self) -> str:
        """What stands at the end of the line."""
        return f"{self.steps[-1].y:.1f}%"


@dataclass(frozen=True)
class Bar:
    """One choice; ``length`` is its share in percent."""

    name: str
    length: float

    @property
    def label(self) -> str:
        """What stands at the end of the bar."""
        return f"{self.length:.0f}%" if self.length >= 1 else "< 1%"


@dataclass(frozen=True)
class Bars:
    """Which choices mattered, the one that mattered most first."""

    title: str
    subtitle: str
    bars: list[Bar]

    x_label = "share in what sets the best recipes apart, %"


def make_course(
    grown: Sequence[Grown], title: str, max_drop: float, patience: int | None
) -> Course:
    """Works out steps, labels and ranges.

    ``patience`` is how many of the latest trials ``search.stop`` judges, if it is set.

    Raises:
        ValueError: if no trial has ended.
    """
    if not grown:
        raise ValueError("a picture over time needs a trial that has ended, but there is none")
    size, unit = next((size, unit) for most, size, unit in _UNITS if grown[-1].at_s <= most)
    befores = [0.0, *(one.hypervolume for one in grown)]
    steps = [_step(one, before, size, unit) for one, before in zip(grown, befores, strict=False)]
    judged = _judged(steps, patience)
    return Course(
        title=f"{title}: how the frontier grew",
        subtitle=_counted(steps) + f" · measured from {100 * (max_drop + BEYOND_MAX_DROP):.4g} pt "
        "of drop at the baseline's cost",
        x_label=f"time of search, {unit}",
        steps=steps,
        last=None if judged is None else (judged[0].x, judged[-1].x),
        last_label="" if judged is None else _gain(judged),
        x_range=(0.0, 1.06 * max(steps[-1].x, 1e-3)),
        y_range=_y_range(steps),
    )


def _step(one: Grown, before: float, size: float, unit: str) -> Step:
    failed = one.trial.state == TrialState.FAILED
    x, y = one.at_s / size, 100 * one.hypervolume
    lines = [
        f"trial {one.trial.number}{' failed' if failed else ''} after {x:.3g} {unit}",
        *(describe([step]) for step in one.trial.recipe),
        f"hypervolume {y:.2f}% ({100 * (one.hypervolume - before):+.2f})",
    ]
    text = "<br>".join(html.escape(line) for line in lines)
    return Step(x, y, one.hypervolume > before, failed, text)


def _judged(steps: list[Step], patience: int | None) -> list[Step] | None:
    """Gives the trials that are judged, with the one before them; None where there are too few."""
    if patience is None or len(steps) <= patience or steps[-patience - 1].y <= 0:
        return None
    return steps[-patience - 1 :]


def _gain(judged: list[Step]) -> str:
    before, *last = judged
    trials = "last trial" if len(last) == 1 else f"last {len(last)} trials"
    gain = 100 * (last[-1].y / before.y - 1)
    return f"{trials}: +{gain:.2g}%" if gain > 0 else f"{trials}: nothing new"


def _counted(steps: list[Step]) -> str:
    failed = sum(step.failed for step in steps)
    trials = f"{len(steps)} trial{'' if len(steps) == 1 else 's'}"
    return f"{trials}, {failed} failed" if failed else trials


def _y_range(steps: list[Step]) -> tuple[float, float]:
    """Leaves out what lies below the first success: the rest would be a line at the top."""
    ys = [step.y for step in steps if step.y > 0] or [0.0]
    height = max(ys[-1] - ys[0], 2.0)
    return max(0.0, ys[0] - 0.25 * height), ys[-1] + 0.25 * height


def make_bars(importance: Importance, title: str) -> Bars:
    """Works out the bars; of very many choices those that mattered least are left out."""
    shares = [(name, 100 * share) for name, share in importance.shares.items() if share > 0]
    n_trials, n_best = importance.n_trials, importance.n_best
    parts = [f"the {n_best} recipes of least drop within the budget against all {n_trials}"]
    if n_trials < FEW_TRIALS:
        parts.append("so few trials give a hint, no proof")
    if len(shares) > MOST_BARS:
        parts.append(f"{len(shares) - MOST_BARS} lesser choices left out")
    return Bars(
        f"{title}: which choices mattered",
        " · ".join(parts),
        [Bar(*share) for share in shares[:MOST_BARS]],
    )
