"""Chooses a setting on one half of the rows and reports it on the other, many times.

The cheapest setting of a family that is believed to lose at most a margin on the first half is
taken; its cost and drop are those on the second half. What is believed of an answer is the
probability that the dense model gives it, at the temperature that fits the labels of the first half
best. Right answers that are counted say less: of a few hundred rows a few dozen are answered
otherwise than by the dense model, nearly as often right as wrong, and among hundreds of settings
the cheapest that seems good enough is then mostly a lucky one.

A margin of one point of belief is not one point of drop; hence a few margins, the same for all
families, of which the one counts that saves most while the mean drop over all seeds and halvings is
at most one point. That one choice in twelve is made on what is reported.

Legend:
    N  rows    C  classes    E'  exits in use    believed [N, C]: of every answer to a row
    macs, right, said [N, E'+1]: for leaving at each place
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import _combinations
import numpy as np

N_HALVINGS = 20
MOST_DROP = 0.01
MARGINS = (-0.005, 0.0, 0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04)
TEMPERATURES = tuple(1.1**step for step in range(-12, 25))
SINGLES = ("Fisher", "LTP", "ACC", "exits")
DENSE = "dense"
POOLED = ("any combination", "any single")


@dataclass(frozen=True)
class Curve:
    """All that can be set on one model with some of its exits; ``unsure`` is None without any."""

    about: Mapping[str, Any]
    macs: Any
    right: Any
    said: Any
    unsure: Any


@dataclass(frozen=True)
class Chosen:
    """The cheapest setting on the rows that decide, and its mean MACs there."""

    cost: float
    curve: Curve
    tau: float | None

    def on(self, rows: Any) -> Any:
        """Gives the mean MACs and accuracy on rows, [2]."""
        from trimtab_strategies.replay import leaves_by_entropy

        quantities = np.stack([self.curve.macs[rows], self.curve.right[rows]], axis=-1)
        places = np.zeros(len(quantities), dtype=int)
        if self.tau is not None:
            places = leaves_by_entropy(self.curve.unsure[rows], self.tau)
        return quantities[np.arange(len(quantities)), places].mean(axis=0)


def families(recorded: Sequence[Any]) -> dict[str, list[Curve]]:
    """Sorts all curves of one seed by what was done; combinations and singles together as well."""
    found: dict[str, list[Curve]] = {}
    for one in recorded:
        if one.together is not None:
            n_exits = len(one.records.exit_layers)
            found.setdefault(one.together, []).extend(
                _curve(one, list(range(first, n_exits))) for first in range(n_exits)
            )
        if one.singles is not None:
            found.setdefault(one.singles, []).append(_curve(one, []))
    pooled: dict[str, list[Curve]] = {name: [] for name in POOLED}
    for name, curves in found.items():
        if name != DENSE:
            pooled[POOLED[name in SINGLES]] += curves
    return found | pooled


def _curve(one: Any, used: list[int]) -> Curve:
    from trimtab_strategies.replay import predictions_of, uncertainty

    macs = one.pricing.macs(one.records, used)
    said = predictions_of(one.records, used)
    right = said == one.records.labels[:, None]
    unsure = uncertainty(one.records.exit_logits[:, used]) if used else None
    return Curve({**one.about, "exits": used}, macs, right, said, unsure)


def halved(by_seed: Mapping[int, Sequence[Any]]) -> list[dict[str, Any]]:
    """Gives a row for each family and margin: cost and drop over all seeds and halvings."""
    outcomes: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for seed, recorded in by_seed.items():
        curves = families(recorded)
        dense = curves[DENSE][0]
        records = next(one.records for one in recorded if one.singles == DENSE)
        for half in _halves(len(records.labels), seed):
            believed = beliefs(records.logits, records.labels, half)
            for name, own in curves.items():
                for margin, outcome in _outcomes(own, dense, believed, half):
                    outcomes.setdefault((name, margin), []).append(outcome)
    return [_row(name, margin, np.array(seen)) for (name, margin), seen in outcomes.items()]


def _halves(n: int, seed: int) -> Iterator[Any]:
    random = np.random.default_rng(seed)
    for _ in range(N_HALVINGS):
        half = np.zeros(n, dtype=bool)
        half[random.permutation(n)[: n // 2]] = True
        yield half


def beliefs(logits: Any, labels: Any, half: Any) -> Any:
    """Gives the dense model's probabilities [N, C], as sure as it may be by the half's labels."""

    def at(temperature: float) -> Any:
        scaled = logits / temperature
        scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return scaled / scaled.sum(axis=1, keepdims=True)

    def surprise(temperature: float) -> float:
        of_labels = at(temperature)[half, labels[half]]
        return float(-np.log(np.maximum(of_labels, 1e-12)).mean())

    return at(min(TEMPERATURES, key=surprise))


def _outcomes(
    curves: Sequence[Curve], dense: Curve, believed: Any, half: Any
) -> Iterator[tuple[float, tuple[float, float]]]:
    """Yields, for each margin, the share of the dense model's cost and the drop, both reported."""
    swept = [_swept(curve, believed, half) for curve in curves]
    ((_, expected),) = _swept(dense, believed, half)[1]
    cost, reported = dense.macs[~half].mean(), dense.right[~half].mean()
    for margin in MARGINS:
        chosen = _cheapest(curves, swept, expected - margin)
        got = (cost, reported) if chosen is None else chosen.on(~half)
        yield margin, (got[0] / cost, reported - got[1])


def _swept(curve: Curve, believed: Any, half: Any) -> tuple[Any, Any]:
    """Gives the settings, and mean cost and belief at each, on the half that decides."""
    from trimtab_strategies.replay import sweep_entropy

    trusted = np.take_along_axis(believed[half], curve.said[half], axis=1)
    quantities = np.stack([curve.macs[half], trusted], axis=-1)
    if curve.unsure is None:
        return np.array([np.nan]), quantities.mean(axis=0)
    found = sweep_entropy(curve.unsure[half], quantities)
    return found.settings, found.sums / half.sum()


def _cheapest(
    curves: Sequence[Curve], swept: Sequence[tuple[Any, Any]], least: float
) -> Chosen | None:
    best: Chosen | None = None
    for curve, (settings, means) in zip(curves, swept, strict=True):
        costs = np.where(means[:, 1] >= least - 1e-9, means[:, 0], np.inf)
        place = int(costs.argmin())
        if costs[place] < (np.inf if best is None else best.cost):
            best = Chosen(float(costs[place]), curve, _amid(settings, place))
    return best


def _amid(settings: Any, place: int) -> float | None:
    """Gives a tau between this setting and the next, which has the same outcome here."""
    if np.isnan(settings[place]):
        return None
    after = settings[place + 1] if place + 1 < len(settings) else 1.0
    return float(settings[place] + max(after, settings[place])) / 2


def _row(name: str, margin: float, seen: Any) -> dict[str, Any]:
    low, high = np.percentile(seen[:, 1], [5, 95])
    return {
        "family": name,
        "margin_points": 100 * margin,
        "times_fewer_flops": float(1 / seen[:, 0].mean()),
        "drop_points": float(100 * seen[:, 1].mean()),
        "drop_points_5_to_95": [float(100 * low), float(100 * high)],
        "outcomes": len(seen),
    }


def best(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Gives a family's row that saves most at a mean drop of at most a point.

    Raises:
        ValueError: if there is none, which a wider span of ``MARGINS`` would mend.
    """
    sound = [r for r in rows if r["family"] == name and r["drop_points"] <= 100 * MOST_DROP]
    if not sound:
        raise ValueError(f"no margin keeps the mean drop of {name!r} within a point")
    return max(sound, key=lambda row: row["times_fewer_flops"])


# The figures of a task


def declared(task: str, goal: float) -> list[dict[str, Any]]:
    """Gives the two declarations of a task's benchmark."""
    return [
        {
            "name": f"quality-{task}",
            "goal": goal,
            "unit": "times fewer FLOPs than the dense model, by combined strategies, at a mean "
            "drop of at most 1 point on the halves that did not choose",
            "better": "higher",
        },
        {
            "name": f"quality-{task}-against-single",
            "goal": 1.0,
            "unit": "times fewer FLOPs than single strategies need at such a drop",
            "better": "higher",
        },
    ]


def figures(task: str, seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Makes, records and halves; gives both figures and, as rows, every family at every margin."""
    rows = halved(_combinations.record_all(task, seeds))
    together, single = (best(rows, name)["times_fewer_flops"] for name in POOLED)
    common = {"seeds": list(seeds), "rows": rows}
    return {
        f"quality-{task}": {
            "figure": together,
            "baseline": "the dense model, each row at its own length",
            **common,
        },
        f"quality-{task}-against-single": {
            "figure": together / single,
            "baseline": "the best of Fisher, LTP, ACC and exits, chosen the same way",
            **common,
        },
    }
