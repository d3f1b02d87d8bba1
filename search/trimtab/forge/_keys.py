"""The names of artifacts: hashes of everything that decides what they are.

Equal keys mean equal work, whichever trial, study or run asks for it, so nothing is made twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from trimtab_strategies import registry
from trimtab_strategies.base import Value
from trimtab_strategies.recipe import Step, stable_key
from trimtab_workers.jobs import Survey
from trimtab_workers.task import Finetune, Task

BASELINE_VERSION = 2
"""Raised when loading, converting or fine-tuning comes to give another dense model."""


def baseline_key(survey: Survey, task: Task, finetune: Finetune) -> str:
    """Names the dense model: the user's weights and, where it is fine-tuned, all that goes in."""
    if survey.has_head:
        return stable_key("baseline", BASELINE_VERSION, survey.model_fingerprint)
    training = [finetune.epochs, finetune.lr, finetune.batch_size, task.metric, task.seed]
    return stable_key(
        "baseline", BASELINE_VERSION, survey.model_fingerprint, survey.data_fingerprint, training
    )


def statistics_key(parent: str, data_fingerprint: str, step: Step) -> str:
    """Names what a strategy measures once on a parent, for all recipes that agree on it."""
    strategy = registry.get(step.strategy)
    deciding = {name: step.choices_dict[name] for name in strategy.statistics_choices}
    return stable_key(
        "statistics", step.strategy, strategy.version, parent, data_fingerprint, deciding
    )


def model_key(
    parent: str, data_fingerprint: str, strategy: str, choices: Mapping[str, Value]
) -> str:
    """Names the model that one step makes of its parent, its rung of the ladder included."""
    version = registry.get(strategy).version
    return stable_key("model", strategy, version, parent, data_fingerprint, dict(choices))
