"""The trial loop: recipes are proposed, their missing steps are sent out, results are recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trimtab.controller._baseline import Baseline
from trimtab.controller._cleanup import drop_weights_off_frontiers
from trimtab.controller._ladder import budget_rung, ladder
from trimtab.controller._limits import budget_ratio
from trimtab.controller._runner import MAX_ATTEMPTS, POLL_S
from trimtab.controller._sampler import Told, propose
from trimtab.controller._session import Session
from trimtab.controller._space import RecipeSpace
from trimtab.controller._steps import CONSTRAINT, Link, Rungs, Steps, without_constraint
from trimtab.forge import is_on_disk
from trimtab.selection import RecipeScores, recipe_scores
from trimtab_storage import InvalidValueError, NewArtifact, PointRow, TrialRow, TrialState
from trimtab_strategies import registry
from trimtab_strategies.base import completed
from trimtab_strategies.recipe import Recipe, Step, describe, from_plain, stable_key, to_plain
from trimtab_workers.executors import Failure, Job, Outcome
from trimtab_workers.jobs import RungResult, StatisticsResult

GRACE_S = 30.0
"""How long running trials may go on when the time is up."""

N_EXTENDED = 2
"""How many of the best recipes get a rung of their own for a budget that came later."""


@dataclass(eq=False)
class Run:
    """A trial under way; ``is_extension`` adds rungs to one that is complete already.

    ``awaits`` names what another trial is making, and ``makes`` what this one is.
    """

    trial: TrialRow
    attempt: int
    links: tuple[Link, ...]
    is_extension: bool = False
    restarts: int = 0
    ticket: int | None = None
    awaits: str | None = None
    makes: str | None = None
    link: Link | None = None
    n_made: int = 0
    started_s: float = field(default_factory=time.monotonic)


class TrialLoop:
    """Runs trials until there are enough, the time is up, or nothing new can be proposed."""

    def __init__(self, session: Session, baseline: Baseline, space: RecipeSpace) -> None:
        assert session.limits is not None
        self._session, self._space = session, space
        self._store, self._lease = session.store, session.lease
        self._limits, self._executor = session.limits, session.runner.executor
        self._budget = budget_ratio(self._limits, baseline.measurement.flops)
        self._steps = Steps(session.store, session.place, baseline, self._limits)
        self._active: list[Run] = []
        self._making: set[str] = set()
        self._sound: set[str] = set()

    def run(self) -> None:
        """Runs until the end; on the way out nothing of ours is left on the executor."""
        try:
            self._start_extensions()
            while True:
                self._fill()
                if self._session.remaining_s <= 0:
                    self._wind_down()
                    return
                if not self._active:
                    return
                self._turn()
        finally:
            for run in self._active:
                if run.ticket is not None:
                    self._executor.cancel(run.ticket)
                    self._session.runner.forget(run.ticket)

    def _turn(self) -> None:
        self._session.tick()  # first, because an inline executor works inside `wait`
        for outcome in self._executor.wait(POLL_S):
            self._handle(outcome)

    def _wind_down(self) -> None:
        """Lets what runs finish: within the grace, or, if nothing was measured yet, to its end."""
        waiting = "; waiting for what is nearly done" if self._active else ""
        self._session.reporter.note(f"the time is up{waiting}")
        until = time.monotonic() + GRACE_S
        while any(run.ticket is not None for run in self._active):
            counts = self._store.trial_counts(self._session.study.id)
            if counts[TrialState.COMPLETE] > 0 and time.monotonic() > until:
                return
            self._turn()

    # What to start

    def _fill(self) -> None:
        while self._has_room():
            trial = self._next_trial()
            if trial is None:
                return
            attempt = self._store.start_trial(self._lease, trial.id)
            links = self._steps.links(_recipe_of(trial), ladder(self._budget))
            self._start(Run(trial, attempt, links))
            # Where all is reused nothing is ever waited for.
            self._session.tick()

    def _has_room(self) -> bool:
        # A trial that waits for another's statistics takes no slot, but there is no point in
        # collecting many of those.
        busy = sum(run.ticket is not None for run in self._active)
        return busy < self._executor.slots and len(self._active) < 2 * self._executor.slots

    def _next_trial(self) -> TrialRow | None:
        search = self._session.spec.search
        trials = self._store.trials(self._session.study.id)
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        n_started = len(trials) - len(waiting)
        # Even when the baseline took all the time, a study that was never tried has one trial.
        if n_started >= search.trials or (n_started and self._session.remaining_s <= 0):
            return None
        if waiting:
            return waiting[0]
        recipe = propose(self._space, self._history(trials), seed=search.seed, number=len(trials))
        if recipe is None:
            return None
        plain = to_plain(recipe)
        return self._store.add_trial(self._lease, plain, stable_key(plain))

    def _history(self, trials: Sequence[TrialRow]) -> list[Told]:
        by_recipe = _by_recipe(self._session.points())
        pending = (TrialState.WAITING, TrialState.RUNNING)
        return [
            Told(from_plain(trial.recipe), self._scores(trial, by_recipe), trial.state in pending)
            for trial in trials
        ]

    def _scores(
        self, trial: TrialRow, by_recipe: Mapping[Recipe, Sequence[PointRow]]
    ) -> RecipeScores | None:
        points = by_recipe.get(from_plain(trial.recipe), ())
        if trial.state != TrialState.COMPLETE or not points:
            return None
        return recipe_scores(points, self._limits)

    def _start_extensions(self) -> None:
        """Gives the best recipes so far a rung that spends exactly this run's budget."""
        rung = budget_rung(self._budget)
        if rung is None:
            return
        complete = self._store.trials(self._session.study.id, TrialState.COMPLETE)
        points = self._session.points()
        measured, by_recipe = {point.artifact_key for point in points}, _by_recipe(points)
        scored = [(trial, self._scores(trial, by_recipe)) for trial in complete]
        ranked = sorted(
            (scores.violation, scores.drop, trial.number, trial)
            for trial, scores in scored
            if scores is not None
        )
        chains = [(t, self._steps.links(_recipe_of(t), (rung,))) for *_, t in ranked]
        aiming = [(t, links) for t, links in chains if links[-1].rungs[0][0] == rung]
        for trial, links in aiming[:N_EXTENDED]:
            if not measured.issuperset(key for _, key in links[-1].rungs):
                self._start(Run(trial, trial.attempts, links, is_extension=True))

    # The steps of one trial

    def _start(self, run: Run) -> None:
        self._active.append(run)
        self._advance(run)

    def _advance(self, run: Run) -> None:
        """Sends out the next missing step, waits for one that is being made, or finishes."""
        run.awaits = None
        if not self._steps.missing(run.links[-1].rungs):
            self._finish(run, [])
            return
        for link in run.links[:-1]:
            if not self._has(link.rungs[0][1]):
                self._make(run, link, link.rungs, link.rungs[0][1])
                return
        last = run.links[-1]
        self._make(run, last, self._steps.missing(last.rungs), None)

    def _make(self, run: Run, link: Link, rungs: Rungs, key: str | None) -> None:
        """Sends out a link, or its statistics; ``key`` names what others may want as well."""
        statistics = self._steps.statistics_key(link)
        needs_statistics = statistics is not None and not self._has(statistics)
        wanted = statistics if needs_statistics else key
        if wanted in self._making:
            run.awaits = wanted
            return
        if wanted is not None:
            self._making.add(wanted)
        run.makes, run.link = wanted, link
        name = link.step.strategy
        if statistics is not None and needs_statistics:
            job: Job = self._steps.statistics_job(link, statistics)
            self._submit(run, job, f"{name} statistics")
        else:
            costs = f"{name} at {len(rungs)} costs" if len(rungs) > 1 else name
            self._submit(run, self._steps.ladder_job(link, rungs), costs)

    def _has(self, key: str) -> bool:
        """Tells whether an artifact is on disk; a damaged one is dropped, so it is made anew."""
        row = self._store.artifact(key)
        if row is None or row.path is None:
            return False
        if key not in self._sound and not is_on_disk(row, self._session.files):
            self._store.drop_files(self._session.files, key)
            return False
        self._sound.add(key)
        return True

    def _submit(self, run: Run, job: Job, what: str) -> None:
        timeout_s = self._session.spec.workers.trial_timeout.seconds
        label = f"trial {run.trial.number}: {what}"
        run.ticket = self._session.runner.submit(job, label, timeout_s=timeout_s)

    # What came back

    def _handle(self, outcome: Outcome) -> None:
        run = next((run for run in self._active if run.ticket == outcome.ticket), None)
        if run is None:
            return
        self._session.runner.forget(outcome.ticket)
        run.ticket = None
        if outcome.failure is not None:
            # Whoever wants to stop may have hit the job; that is not the trial's fault.
            self._session.tick()
            if self._lost_its_parent(run):
                self._advance(run)
                return
            self._fail(run, outcome.failure)
        elif isinstance(outcome.value, StatisticsResult):
            assert run.link is not None and run.makes is not None
            made = self._steps.statistics_row(run.link, run.makes, outcome.value)
            self._keep(run, made)
        elif run.link is not run.links[-1]:
            assert run.link is not None
            self._keep(run, self._steps.model_row(run.link, outcome.value[0]))
        else:
            self._finish(run, outcome.value)

    def _lost_its_parent(self, run: Run) -> bool:
        """Tells whether another study has taken away what a job was to start from; not for ever."""
        if run.link is None or run.restarts + 1 >= MAX_ATTEMPTS:
            return False
        self._sound.discard(run.link.parent)
        if run.link.before == () or self._has(run.link.parent):
            return False
        run.restarts += 1
        self._making.discard(run.makes or "")
        run.makes = None
        return True

    def _keep(self, run: Run, made: NewArtifact) -> None:
        """Records what later steps, of this trial and of others, start from."""
        self._store.record_artifact(self._lease, made)
        run.n_made += 1
        key, run.makes = run.makes, None
        self._advance(run)
        self._wake(key)

    def _wake(self, key: str | None) -> None:
        """Lets those go on who waited for statistics that are made now, or have failed."""
        self._making.discard(key or "")
        for waiting in [run for run in self._active if key and run.awaits == key]:
            self._advance(waiting)

    def _finish(self, run: Run, results: Sequence[RungResult]) -> None:
        try:
            points = self._steps.points(run.links[-1], results)
        except InvalidValueError as error:
            self._fail(run, Failure("error", str(error)))
            return
        self._active.remove(run)
        artifacts = [self._steps.model_row(run.links[-1], result) for result in results]
        reused = self._n_reused(run, len(results))
        seconds = time.monotonic() - run.started_s
        if run.is_extension:
            self._store.update_trial_points(self._lease, run.trial.id, points, artifacts, seconds)
        else:
            self._store.complete_trial(
                self._lease,
                run.trial.id,
                run.attempt,
                points=points,
                artifacts=artifacts,
                seconds=seconds,
                reused=reused,
                result={"points": len(points), "made": len(results)},
            )
        self._session.reused += reused
        self._session.refresh_best()
        in_use = {link.parent for other in self._active for link in other.links}
        self._sound -= drop_weights_off_frontiers(self._store, self._session.files, in_use)

    def _n_reused(self, run: Run, n_results: int) -> int:
        """Counts the steps that had been made before, statistics included; of all that it needs."""
        reused = len(run.links[-1].rungs) - n_results
        if n_results:
            needed = sum(self._steps.statistics_key(link) is not None for link in run.links)
            reused += needed + len(run.links) - 1 - run.n_made
        return reused

    def _fail(self, run: Run, failure: Failure) -> None:
        self._active.remove(run)
        number, reason = run.trial.number, f"{failure.reason}: {failure.message}"
        event = {"trial": number, "attempt": run.attempt, "reason": reason}
        detail = {**event, "detail": failure.detail}
        self._store.log_event(self._session.study.id, "trial-failed", detail)
        if run.is_extension and failure.reason == "crashed" and run.restarts + 1 < MAX_ATTEMPTS:
            again = Run(run.trial, run.attempt, run.links, True, run.restarts + 1)
            self._start(again)
        elif run.is_extension:
            self._session.reporter.note(f"trial {number} could not be extended ({reason})")
        elif failure.reason == "crashed" and run.attempt < MAX_ATTEMPTS:
            self._store.requeue_trial(self._lease, run.trial.id, run.attempt, reason)
            self._session.reporter.note(f"trial {number} lost its worker; it is tried again")
        else:
            seconds = time.monotonic() - run.started_s
            self._store.fail_trial(self._lease, run.trial.id, run.attempt, reason, seconds)
            shown = describe(run.trial.recipe)
            self._session.reporter.note(f"trial {number} ({shown}) failed: {reason}")
        self._wake(run.makes)


def _by_recipe(points: Sequence[PointRow]) -> dict[Recipe, list[PointRow]]:
    """Sorts points by the recipe that they are a result of."""
    sorted_in: dict[Recipe, list[PointRow]] = {}
    for point in points:
        sorted_in.setdefault(_as_tried(from_plain(point.recipe)), []).append(point)
    return sorted_in


def _recipe_of(trial: TrialRow) -> Recipe:
    """Gives the steps of a trial, completed where an earlier version had fewer choices."""
    return tuple(
        Step.of(
            step.strategy,
            {
                **completed(registry.get(step.strategy), without_constraint(step).choices_dict),
                **{n: v for n, v in step.choices if n == CONSTRAINT},
            },
        )
        for step in from_plain(trial.recipe)
    )


def _as_tried(recipe: Recipe) -> Recipe:
    """Takes the rung from a recipe of one step; in a longer one its cost was chosen with it."""
    return tuple(map(without_constraint, recipe)) if len(recipe) == 1 else recipe
