"""Optuna's estimator, made quick for a study that is built anew for every proposal.

It proposes what Optuna's own classes would, to the last bit; only work that is done again and
again is done once: a trial is made once for all studies that are told of it, trials are sorted
into good and others once for all choices of a proposal, and a choice is modelled once for all
attempts at it.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

KNOWN = "5.0."
"""The versions of Optuna whose estimator was looked into; with others its own is used as it is."""


class ToldTrial(FrozenTrial):
    """A trial that any number of studies take as it is, since nothing in it is ever changed.

    Optuna copies a trial that it takes with all that is in it, and looks for the constraint among
    its attributes whenever it asks; that was nearly all the time of a proposal.
    """

    def __init__(self, like: FrozenTrial) -> None:
        vars(self).update(vars(like))
        self._found = like.constraints

    def __deepcopy__(self, memo: object) -> ToldTrial:
        return copy(self)

    @property
    def constraints(self) -> dict[str, float]:
        return self._found


def study_of(trials: Iterable[ToldTrial], sampler: BaseSampler) -> optuna.Study:
    """Gives a study of two numbers to minimise that was told of these trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, smaller = InMemoryStorage(), StudyDirection.MINIMIZE
    study = optuna.create_study(storage=storage, directions=[smaller, smaller], sampler=sampler)
    study_id = storage.get_study_id_from_name(study.study_name)
    for trial in trials:
        # As `study.add_trial` does, but for a check that was made when the trial was.
        storage.create_new_trial(study_id, trial)
    return study


def estimator(seed: int, n_startup_trials: int) -> TPESampler:
    """Gives a sampler for one proposal; its study is told of nothing but failures meanwhile."""
    kind = _Once if optuna.__version__.startswith(KNOWN) else TPESampler
    return kind(seed=seed, n_startup_trials=n_startup_trials)


class _Once(TPESampler):
    """Keeps what Optuna's works out anew for every choice of every attempt."""

    _halves: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._models: dict[str, tuple[Any, Any]] = {}

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        (name,) = search_space  # of several objectives, each choice is drawn on its own
        if name not in self._models:
            good, others = self._sorted(study, trial)
            self._models[name] = (
                self._build_parzen_estimator(study, search_space, good, handle_below=True),
                self._build_parzen_estimator(study, search_space, others, handle_below=False),
            )
        below, above = self._models[name]
        drawn = below.sample(self._rng.rng, self._n_ei_candidates)
        found = self._compare(drawn, self._compute_acquisition_func(drawn, below, above))
        return {name: search_space[name].to_external_repr(found[name])}

    def _sorted(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        # Here, so that a version that has moved them is no error.
        from optuna.samplers._tpe.sampler import _split_trials, default_gamma_multiobjective

        if self._halves is None:
            states = (TrialState.COMPLETE, TrialState.RUNNING)
            told = study.get_trials(deepcopy=False, states=states)
            others = [other for other in told if other.number != trial.number]
            n_complete = sum(other.state == TrialState.COMPLETE for other in others)
            n_good = default_gamma_multiobjective(n_complete)
            self._halves = _split_trials(study, others, n_good)
        return self._halves
