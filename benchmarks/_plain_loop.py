"""The loop that people write today: Optuna draws a recipe, all of it is trained, then evaluated.

It has the same space, steps, rows and dense model as the study beside it. What it lacks is the
engine: every trial begins at the fine-tuned model and pays all of its steps and statistics, a model
is made at one cost, and its knobs are tried one evaluation at a time: a grid of at most 20
settings, the plain ones among them. What counting FLOPs takes is not counted. All settings of the
model are measured as well, as the engine does, uncounted too: to tell how it would stand had the
loop guessed the best 20 settings of each of these models, and for replays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

N_SETTINGS = 20
SCALES = {
    "ltp": ("delta_scale", (0.5, 1.0, 1.5, 2.0)),
    "acc": ("alpha_sc", (0.9, 1.0, 1.1, 1.2)),
}
"""Of thresholds or shares, where there are exits too; alone they have all that the engine has."""
THRESHOLDS = (0.02, 0.8)
"""Of uncertainty, in geometric steps: a model that has learned its task is sure of most rows."""
Pair = tuple[float, float]


@dataclass(frozen=True)
class Tried:
    """One trial: its recipe, its drops and costs, the CPU time of making it, and that of all.

    ``guessed`` are drops and costs had it guessed the best settings, ``swept`` those of all.
    """

    recipe: Any
    pairs: tuple[Pair, ...]
    guessed: tuple[Pair, ...]
    swept: tuple[Pair, ...]
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
        making_s = time.process_time() - started
        sweep = ground.place.sweep(context, model, "search")
        settings, evaluating_s = _evaluated(ground, context, model, sweep)
        scores = recipe_scores(settings, ground.limits)
        trial.set_constraint("limits", scores.violation)
        study.tell(trial, [scores.cost_ratio, scores.drop])
        every = _swept(ground, sweep[0])
        found = [_pairs(each) for each in (settings, _best(every), every)]
        yield Tried(recipe, *found, making_s, making_s + evaluating_s)


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


def _knob_settings(model: Any) -> list[dict[str, Any]]:
    """Lists the settings that are evaluated of a model."""
    from trimtab_workers import sweeping

    rule, scaled = model.token_rule, [dict[str, Any]()]
    if rule is not None:
        name, scales = (SCALES if len(model.exits) else sweeping.SCALES)[rule.placement]
        scaled = [{} if scale == 1.0 else {name: scale} for scale in scales]
    if not len(model.exits):
        return scaled
    n = N_SETTINGS // len(scaled) - 1
    leaving = [{}, *({"tau": float(tau)} for tau in np.geomspace(*THRESHOLDS, n))]
    return [{**own, **leaves} for own in scaled for leaves in leaving]


def _evaluated(
    ground: Ground, context: Any, model: Any, sweep: tuple[Any, Any]
) -> tuple[list[Any], float]:
    """Evaluates a model at its settings; gives them with the CPU time that it took."""
    from trimtab.controller._ranking import Setting

    dense, settings, spent_s = ground.baseline.measurement, [], 0.0
    for place, knobs in enumerate(_knob_settings(model)):
        metric, each_s = _metric(ground, context, model, knobs)
        flops = _flops(ground, context, model, knobs, sweep)
        settings.append(Setting(dense.metric - metric, flops, flops / dense.flops, id=place))
        spent_s += each_s
    return settings, spent_s


def _metric(ground: Ground, context: Any, model: Any, knobs: Any) -> tuple[float, float]:
    from trimtab_workers.evaluation import evaluate

    rows = ground.place.data(context).search
    before, model.config.knobs = model.config.knobs, dict(knobs)
    started = time.process_time()
    found = evaluate(
        model,
        rows,
        metric=ground.place.task.metric,
        pad_token_id=model.config.pad_token_id,
        device=model.device,
    )
    spent_s = time.process_time() - started
    model.config.knobs = before
    return found.metric, spent_s


def _flops(ground: Ground, context: Any, model: Any, knobs: Any, sweep: tuple[Any, Any]) -> float:
    """Reads the FLOPs of a setting off what was recorded in the pass at its scale."""
    from trimtab_strategies.outcomes import outcome_at
    from trimtab_strategies.records import records_file
    from trimtab_workers import sweeping

    measured, by_file = sweep
    if not knobs:
        return float(measured.flops)
    pricing, records = sweeping._pricing(model), by_file[records_file(knobs)]
    macs, _ = outcome_at(pricing, records, knobs)
    workload = ground.place.histogram(context)
    return float(sweeping._flops(np.asarray(macs.sum()), pricing, records, workload))


def _swept(ground: Ground, measured: Any) -> list[Any]:
    """Gives all settings of a model that the engine measures."""
    from trimtab.controller._ranking import Setting

    dense = ground.baseline.measurement
    plain = {"metric": measured.metric, "flops": measured.flops}
    return [
        Setting(dense.metric - s["metric"], s["flops"], s["flops"] / dense.flops, id=place)
        for place, s in enumerate([plain, *measured.settings])
    ]


def _best(every: list[Any]) -> list[Any]:
    """Gives at most 20 of the settings that nothing beats, evenly spread by cost."""
    from trimtab.controller._ranking import unbeaten

    found = sorted(unbeaten(every), key=lambda setting: setting.flops)
    last = len(found) - 1
    if last < N_SETTINGS:
        return found
    return [found[round(i * last / (N_SETTINGS - 1))] for i in range(N_SETTINGS)]


def _pairs(settings: list[Any]) -> tuple[Pair, ...]:
    return tuple((setting.drop, setting.flops_ratio) for setting in settings)
