"""The loop that people write today: Optuna draws a recipe, all of it is trained, then evaluated.

It has the same space, steps, rows and dense model as the study beside it. What it lacks is the
engine: every trial begins at the fine-tuned model and pays all of its steps and statistics, a model
is made at one cost, and its knobs are tried one evaluation at a time, 20 of them. Two favours are
done to it. The 20 settings are of those that nothing beats, found by a sweep whose time is not
counted; and each is priced at what one evaluation took that was timed, at the middle one of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

N_SETTINGS = 20
Pair = tuple[float, float]


@dataclass(frozen=True)
class Tried:
    """One trial: its recipe, its drops and costs, the CPU time of making it, and that of all."""

    recipe: Any
    pairs: tuple[Pair, ...]
    making_s: float
    cpu_s: float


@dataclass(frozen=True)
class Ground:
    """What a study and the loop beside it share."""

    place: Any
    baseline: Any
    space: Any
    limits: Any
    costs: Sequence[float]


def plain_loop(ground: Ground, seed: int) -> Iterator[Tried]:
    """Runs trials for as long as anybody asks for more."""
    import optuna
    from optuna.samplers import TPESampler

    from trimtab.selection import recipe_scores
    from trimtab_workers.executors import WorkerContext

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=TPESampler(seed=seed))
    context = WorkerContext("cpu", lambda *_: None)
    while True:
        trial = study.ask()
        recipe = _with_cost(trial, ground)
        started = time.process_time()
        model = _made(ground, context, recipe)
        spent = time.process_time() - started
        settings, each_s = _evaluated(ground, context, model)
        scores = recipe_scores(settings, ground.limits)
        trial.set_constraint("limits", scores.violation)
        study.tell(trial, [scores.cost_ratio, scores.drop])
        pairs = tuple((setting.drop, setting.flops_ratio) for setting in settings)
        yield Tried(recipe, pairs, spent, spent + each_s * len(settings))


def _with_cost(trial: Any, ground: Ground) -> Any:
    """Draws a recipe, and for a last step that aims at a cost one of those a study makes."""
    from trimtab_strategies import registry

    *before, last = ground.space.draw(trial)
    if registry.get(last.strategy).aims:
        last = last.with_choices(constraint=trial.suggest_categorical("cost", ground.costs))
    return (*before, last)


def _made(ground: Ground, context: Any, recipe: Any) -> Any:
    """Applies all steps, one after the other, to the fine-tuned model."""
    from trimtab.controller._steps import without_constraint
    from trimtab_strategies import registry
    from trimtab_workers.jobs._strategy import calibration_of

    model = ground.place.elastic_model(context, ground.baseline.key)
    rows = calibration_of(ground.place, context, model)
    for step in recipe:
        strategy, choices = registry.get(step.strategy), without_constraint(step).choices_dict
        prepared = None
        if strategy.statistics_choices:
            prepared = strategy.prepare(model, rows, choices, context.report)
        cost = float(step.choices_dict.get("constraint", 1.0))
        (variant,) = strategy.apply(model, rows, choices, prepared, [cost], context.report)
        model = variant.model
    return model


def _evaluated(ground: Ground, context: Any, model: Any) -> tuple[list[Any], float]:
    """Gives at most 20 of the settings that nothing beats, and what one evaluation takes."""
    from trimtab.controller._ranking import Setting, unbeaten

    measured, _ = ground.place.sweep(context, model, "search")
    plain = {"knobs": {}, "metric": measured.metric, "flops": measured.flops}
    every = [plain, *measured.settings]
    dense = ground.baseline.measurement
    found = unbeaten(
        [
            Setting(dense.metric - s["metric"], s["flops"], s["flops"] / dense.flops, id=place)
            for place, s in enumerate(every)
        ]
    )
    settings = sorted(found, key=lambda setting: setting.flops)
    if len(settings) > N_SETTINGS:
        last = len(settings) - 1
        settings = [settings[round(i * last / (N_SETTINGS - 1))] for i in range(N_SETTINGS)]
    knobs = every[settings[len(settings) // 2].id]["knobs"]
    return settings, _evaluation_s(ground, context, model, knobs)


def _evaluation_s(ground: Ground, context: Any, model: Any, knobs: Any) -> float:
    from trimtab_workers.evaluation import evaluate

    rows = ground.place.data(context).search
    before, model.config.knobs = model.config.knobs, dict(knobs)
    started = time.process_time()
    evaluate(
        model,
        rows,
        metric=ground.place.task.metric,
        pad_token_id=model.config.pad_token_id,
        device=model.device,
    )
    model.config.knobs = before
    return time.process_time() - started
