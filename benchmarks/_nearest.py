"""Replays the search with trials that were recorded: a proposal stands for the nearest of them.

Our sampler and uniform draws propose recipes of one space; for each proposal the nearest recorded
recipe of the same strategies that was not tried yet gives its points, and costs what its steps took
when they were recorded. A step that an earlier trial made costs nothing, as in the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import _plain_loop

Draw = Callable[[int, list[Any]], Any]


@dataclass(frozen=True)
class Kept:
    """A recorded trial: its recipe in the space, its drops and costs, and what its steps took."""

    recipe: Any
    pairs: tuple[_plain_loop.Pair, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Recorded:
    """All that was recorded of one seed."""

    space: Any
    limits: Any
    kept: list[Kept]


def read_back(spec: Any, db: str) -> tuple[_plain_loop.Ground, list[Kept]]:
    """Reads a study's ground and its trials from its database."""
    from trimtab.controller import budget_ratio, task_of
    from trimtab.controller._baseline import Baseline
    from trimtab.controller._ladder import ladder
    from trimtab.controller._prospect import prospect_alone
    from trimtab.forge import measurement_name, stored_measurement
    from trimtab.selection import Limits
    from trimtab_storage import ArtifactFiles, Reader
    from trimtab_workers.executors import WorkerContext
    from trimtab_workers.jobs import Place, SurveyJob

    with Reader.open_reader(db) as reader:
        row = reader.study(spec.name)
        assert row is not None and row.baseline is not None
        place = Place(task_of(spec), spec.model, ArtifactFiles(reader.artifact_root, "plain"))
        survey = SurveyJob(place).run(WorkerContext("cpu", lambda *_: None))
        dense = reader.artifact(row.baseline["artifact"])
        assert dense is not None
        name = measurement_name(place.task.metric, survey.data_fingerprint, "search")
        measurement = stored_measurement(dense, name)
        assert measurement is not None
        limits = Limits(**row.limits)
        budget = budget_ratio(limits, measurement.flops)
        space = prospect_alone(spec, survey, budget).space
        baseline = Baseline(dense.key, survey, measurement)
        ground = _plain_loop.Ground(place, baseline, space, limits, ladder(budget))
        return ground, list(_trials(reader, row, ground))


def _trials(reader: Any, row: Any, ground: _plain_loop.Ground) -> Iterator[Kept]:
    from trimtab.controller._history import recipe_of
    from trimtab.controller._steps import Steps

    steps = Steps(reader, ground.place, ground.baseline, ground.limits)
    dense = ground.baseline.measurement
    for trial in reader.trials(row.id, "complete"):
        recipe = recipe_of(trial)
        links = steps.links(recipe, ground.costs)
        keys = {key for link in links for _, key in link.rungs}
        keys |= {key for link in links if (key := steps.statistics_key(link))}
        rows = {key: reader.artifact(key) for key in keys}
        pairs = []
        for _, key in links[-1].rungs:
            measured = steps.measured(links[-1], key)
            if measured is not None:
                plain = {"metric": measured.metric, "flops": measured.flops}
                pairs += [
                    (dense.metric - each["metric"], each["flops"] / dense.flops)
                    for each in (plain, *measured.settings)
                ]
        seconds = {key: found.seconds for key, found in rows.items() if found is not None}
        yield Kept(recipe, tuple(pairs), seconds)


def recorded(
    ground: _plain_loop.Ground, ours: list[Kept], tried: Sequence[_plain_loop.Tried], seed: int
) -> Recorded:
    """Puts both searches' trials together; plain ones that the space has no name for are left."""
    from trimtab.controller._steps import CONSTRAINT

    known = {each.recipe for each in ours}
    kept = list(ours)
    for number, each in enumerate(tried):
        aims_last = CONSTRAINT in each.recipe[-1].choices_dict
        if not aims_last and each.recipe not in known:
            known.add(each.recipe)
            kept.append(Kept(each.recipe, each.swept, {f"plain-{seed}-{number}": each.making_s}))
    return Recorded(ground.space, ground.limits, kept)


def replays(worlds: Sequence[Recorded], n_replays: int, enough: float) -> list[dict[str, Any]]:
    """Replays both ways of proposing, world by world in turn; a row for each pair."""
    rows = []
    for seed in range(n_replays):
        world = worlds[seed % len(worlds)]
        ours = _spent(world, enough, _sampled(world, seed))
        random = _spent(world, enough, _uniform(world, seed))
        rows.append({"ratio": random / ours, "ours_s": ours, "random_s": random})
    return rows


def _sampled(world: Recorded, seed: int) -> Draw:
    from trimtab.controller._sampler import propose

    def draw(number: int, told: list[Any]) -> Any:
        return propose(world.space, told, seed=seed, number=number)

    return draw


def _uniform(world: Recorded, seed: int) -> Draw:
    import optuna
    from optuna.samplers import RandomSampler

    study = optuna.create_study(sampler=RandomSampler(seed=seed))

    def draw(number: int, told: list[Any]) -> Any:
        return world.space.draw(study.ask())

    return draw


def _spent(world: Recorded, enough: float, draw: Draw) -> float:
    """Gives the seconds until enough of the hypervolume of all that was recorded is reached."""
    from trimtab.controller._sampler import Told
    from trimtab.progress import share_of
    from trimtab.selection import recipe_scores

    most = world.limits.max_drop
    goal = enough * share_of([pair for each in world.kept for pair in each.pairs], most)
    left, made, pairs, told = list(world.kept), dict[str, float](), list[Any](), list[Any]()
    while share_of(pairs, most) < goal - 1e-12:
        recipe = draw(len(told), told)
        nearest = min(left, key=lambda kept: _distance(world.space, recipe, kept.recipe))
        if math.isinf(_distance(world.space, recipe, nearest.recipe)):
            told.append(Told(recipe, None))  # all of these strategies were tried
            continue
        left.remove(nearest)
        made |= nearest.seconds
        pairs += nearest.pairs
        if nearest.recipe != recipe:
            told.append(Told(recipe, None))
        told.append(Told(nearest.recipe, recipe_scores(_settings(nearest), world.limits)))
    return sum(made.values())


def _settings(kept: Kept) -> list[Any]:
    from trimtab.controller._ranking import Setting

    return [Setting(drop, cost, cost) for drop, cost in kept.pairs]


def _distance(space: Any, one: Any, other: Any) -> float:
    """Sums up how far the choices of two recipes are apart, each at most 1; inf for others."""
    first, second = space.parameters(one), space.parameters(other)
    if first is None or second is None:
        return math.inf
    if [step.strategy for step in one] != [step.strategy for step in other]:
        return math.inf
    names = first.keys() | second.keys()
    return sum(_apart(first.get(name), second.get(name)) for name in names)


def _apart(one: Any, other: Any) -> float:
    if one is None or other is None:
        return 1.0
    (first, range_), (second, _) = one, other
    if not hasattr(range_, "low"):
        return float(first != second)
    low, high = range_.low, range_.high
    if range_.log:
        first, second, low, high = map(math.log, (first, second, low, high))
    return float(abs(first - second) / (high - low))
