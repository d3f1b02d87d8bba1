"""What do the parts of token pruning and of exits add? On TREC, in accuracy.

Three seeds each.
Order: ACC's shares with the most attended tokens kept (as published), with tokens kept at random,
and with trailing tokens dropped, each fine-tuned for an epoch (ACC's Table VI); all cost the same.
Exits: trained to say what the final classifier says, or the labels. Thresholds: learned softly and
then hard, the straight line with as many epochs of hard fine-tuning, and with nothing trained;
the factor on thresholds is set so that each costs 60 % of the dense model's FLOPs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import _combinations
import _tasks

TASK, SHARE, N_SEEDS = "trec", 0.6, 3
MOST_BISECTIONS, NEAR_ENOUGH = 20, 0.01
ORDERS = ("attended", "random", "trailing")
OBJECTIVES = ("distil", "labels")
THRESHOLDS: dict[str, dict[str, int]] = {
    "learned": {},
    "hard_only": {"hard_epochs": 2},
    "manual": {},
}
POINTS = "points of accuracy, TREC, mean of three seeds: "
BENCHMARKS = [
    {
        "name": "ablation-order",
        "goal": 0.0,
        "unit": POINTS + "ACC's order above the better of random and trailing",
        "better": "higher",
    },
    {
        "name": "ablation-exits",
        "goal": 0.0,
        "unit": POINTS + "exits (mean of all) that distil above those that learn labels",
        "better": "higher",
    },
    {
        "name": "ablation-stages",
        "goal": 0.0,
        "unit": POINTS + "learned thresholds above hard fine-tuning only, at 60 % of the FLOPs",
        "better": "higher",
    },
    {
        "name": "ablation-learned",
        "goal": 0.0,
        "unit": POINTS + "learned thresholds above untrained ones, at 60 % of the FLOPs",
        "better": "higher",
    },
]


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives four gains; rows hold the accuracies of every seed."""
    _tasks.prepare(TASK)
    seeds = list(range(seed, seed + N_SEEDS))
    jobs = [(one, part) for part in PARTS for one in seeds]
    found: dict[str, list[float]] = {}
    for accuracies in _combinations.on_all_cores(_run_part, jobs):
        for name, accuracy in accuracies.items():
            found.setdefault(name, []).append(accuracy)
    mean = {name: 100 * statistics.mean(seen) for name, seen in found.items()}
    gains = {
        "ablation-order": mean["attended"] - max(mean["random"], mean["trailing"]),
        "ablation-exits": mean["distil"] - mean["labels"],
        "ablation-stages": mean["learned"] - mean["hard_only"],
        "ablation-learned": mean["learned"] - mean["manual"],
    }
    rows = [{"what": name, "accuracies": seen} for name, seen in found.items()]
    common = {"baseline": "the part left out or replaced", "seeds": seeds, "rows": rows}
    return {name: {"figure": gain, **common} for name, gain in gains.items()}


def _run_part(job: tuple[int, str]) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    seed, part = job
    prepared = _tasks.prepare(TASK)
    found = PARTS[part](_combinations.Maker(prepared, prepared.calibration(seed)))
    print(f"seed {seed}, {part}: {dict(found)}", flush=True)
    return dict(found)


def _orders(maker: _combinations.Maker) -> Mapping[str, float]:
    from trimtab_strategies.fine_tuning import BATCH_SIZE, fine_tune_weights

    rows, rate = maker.calibration, maker.prepared.task.learning_rate
    found = {}
    for order in ORDERS:
        (model,) = maker.apply("acc", maker.dense, epochs=0)
        _reorder(model.token_rule, order)
        fine_tune_weights(model, rows.batches(rows.n_rows, BATCH_SIZE), rate, 1, lambda *_: None)
        found[order] = maker.prepared.accuracy(model)
    return found


def _reorder(rule: Any, order: str) -> None:
    """Has a rule rank tokens in another order than by the attention that they receive."""
    import torch

    keeps, random = rule.keeps, torch.Generator().manual_seed(0)

    def ranked(received: Any) -> Any:
        if order == "random":
            return torch.rand(received.shape, generator=random)
        return -torch.arange(received.shape[1]).expand_as(received).float() + received.shape[1]

    if order != "attended":
        rule.keeps = lambda layer, received, live, scale: keeps(
            layer, ranked(received), live, scale
        )


def _exits(maker: _combinations.Maker) -> Mapping[str, float]:
    from trimtab_workers.sweeping import record

    found = {}
    for objective in OBJECTIVES:
        (model,) = maker.apply("early_exit", maker.dense, objective=objective)
        records = record(model, maker.prepared.report)
        right = records.exit_logits.argmax(axis=-1) == records.labels[:, None]
        found[objective] = float(right.mean())
    return found


def _thresholds(maker: _combinations.Maker) -> Mapping[str, float]:
    found = {}
    for kind, epochs in THRESHOLDS.items():
        (model,) = maker.apply("ltp", maker.dense, thresholds=kind, **epochs)
        found[kind] = _accuracy_at_share(model, maker.prepared)
    return found


def _accuracy_at_share(model: Any, prepared: _tasks.Prepared) -> float:
    """Sets the factor on thresholds by bisection, then measures; costs decide, not accuracy."""
    from trimtab_workers.sweeping import flops_at

    def flops(scale: float) -> float:
        model.config.knobs = {"delta_scale": scale}
        return flops_at(model, prepared.report, prepared.histogram)

    wanted, low, high = SHARE * flops(0.0), 0.0, 4.0
    for _ in range(MOST_BISECTIONS):
        middle = (low + high) / 2
        got = flops(middle)
        if abs(got / wanted - 1) < NEAR_ENOUGH:
            return prepared.accuracy(model)
        low, high = (middle, high) if got > wanted else (low, middle)
    raise RuntimeError(f"no factor on thresholds costs {SHARE:.0%}; the nearest costs {got:.4g}")


PARTS: dict[str, Callable[[_combinations.Maker], Mapping[str, float]]] = {
    "thresholds": _thresholds,
    "orders": _orders,
    "exits": _exits,
}
