"""What came of trials: results and failures are written down, and said where people look."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from trimtab._wording import one_line, replay_command
from trimtab.controller._failures import FAILED, LIMITED, limits_of
from trimtab.controller._history import History, is_only_looked_at
from trimtab.controller._looks import Looks
from trimtab.controller._runner import MAX_ATTEMPTS
from trimtab.controller._session import Session
from trimtab.controller._steps import Steps
from trimtab.controller._stopwatch import Stopwatch
from trimtab.controller._underway import Run, Underway
from trimtab_storage import InvalidValueError, TrialState
from trimtab_strategies.recipe import describe
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import RungResult


class Recorder:
    """Writes down what became of runs; ``underway`` gets those that are started once more."""

    underway: Underway

    def __init__(
        self,
        session: Session,
        steps: Steps,
        history: History,
        looks: Looks,
        stopwatch: Stopwatch | None,
        on_result: Callable[[], None],
    ) -> None:
        self._session, self._steps, self._history = session, steps, history
        self._looks, self._stopwatch, self._on_result = looks, stopwatch, on_result
        self._store, self._lease = session.store, session.lease

    def finish(self, run: Run, results: Sequence[RungResult]) -> None:
        """Records the result of a run whose models are all made."""
        reused = self._n_reused(run, len(results))
        try:
            self._record(run, results, reused)
        except InvalidValueError as error:
            self.fail(run, Failure("error", str(error)))
            return
        self._session.reused += reused
        self._session.refresh_best()
        self._on_result()

    def _record(self, run: Run, results: Sequence[RungResult], reused: int) -> None:
        points = self._steps.points(run.links, results)
        if self._stopwatch is not None:
            points = self._stopwatch.with_predictions(points)
            self._stopwatch.note_end()
        artifacts = [self._steps.model_row(run.links[-1], result) for result in results]
        seconds = time.monotonic() - run.started_s
        goes_on = is_only_looked_at(run.trial)
        result = self._looks.result(run, results, len(points))
        if run.is_extension:
            told = result if goes_on else None
            self._store.update_trial_points(
                self._lease, run.trial.id, points, artifacts, seconds, told
            )
        else:
            self._store.complete_trial(
                self._lease,
                run.trial.id,
                run.attempt,
                points=points,
                artifacts=artifacts,
                seconds=seconds,
                reused=reused,
                result=result,
            )
        if goes_on or not run.is_extension:
            self._history.note(replace(run.trial, result=result), TrialState.COMPLETE)

    def _n_reused(self, run: Run, n_results: int) -> int:
        """Counts the steps that had been made before, statistics included; of all that it needs.

        What an earlier attempt of this run's trial had made does not count.
        """
        reused = len(run.links[-1].rungs) - n_results
        if n_results:
            needed = sum(self._steps.statistics_key(link) is not None for link in run.links)
            reused += needed + len(run.links) - 1 - self.underway.n_made(run.trial.id)
        return max(0, reused)

    def fail(self, run: Run, failure: Failure, steps: Collection[str] = ()) -> None:
        """Records that a run failed; one that lost its worker is tried again.

        ``steps`` are the keys of what it failed at, so that later runs know of it too.
        """
        number, reason = run.trial.number, f"{failure.reason}: {failure.message}"
        event = {"trial": number, "attempt": run.attempt, "reason": reason}
        detail = {**event, "steps": sorted(steps), "detail": failure.detail}
        if failure.is_in_doubt:
            detail["in_doubt"] = True
        if failure.reason in LIMITED:
            detail["limits"] = limits_of(self._session.spec.workers)
        self._store.log_event(self._session.study.id, FAILED, detail)
        may_again = failure.is_worth_another_try
        if run.is_extension and may_again and run.restarts + 1 < MAX_ATTEMPTS:
            again = Run(run.trial, run.attempt + 1, run.links, True, run.restarts + 1)
            self.underway.start(again)
        elif is_only_looked_at(run.trial):
            self._give_up(run, reason)
        elif run.is_extension:
            self._session.reporter.note(f"trial {number} could not be extended ({reason})")
        elif may_again and run.attempt < MAX_ATTEMPTS:
            self._store.requeue_trial(self._lease, run.trial.id, run.attempt, reason)
            self._history.note(run.trial, TrialState.WAITING)
            why = ", as memory ran out with others at work" if failure.is_in_doubt else ""
            self._session.reporter.note(f"trial {number} lost its worker{why}; it is tried again")
        else:
            seconds = time.monotonic() - run.started_s
            self._store.fail_trial(self._lease, run.trial.id, run.attempt, reason, seconds)
            self._history.note(run.trial, TrialState.FAILED)
            shown, command = describe(run.trial.recipe), self._replay_command(number)
            self._session.reporter.note(
                f"trial {number} ({shown}) failed: {one_line(reason)}; to see where: {command}"
            )

    def _give_up(self, run: Run, reason: str) -> None:
        """Leaves a trial with what was seen of it, and says that there will be no more."""
        seconds, result = time.monotonic() - run.started_s, self._looks.given_up(run, reason)
        self._store.update_trial_points(self._lease, run.trial.id, [], [], seconds, result)
        self._history.note(replace(run.trial, result=result), TrialState.COMPLETE)
        command = self._replay_command(run.trial.number)
        said = f"trial {run.trial.number} {one_line(result['reason'])}; to see where: {command}"
        self._session.reporter.note(said)

    def _replay_command(self, number: int) -> str:
        return replay_command(self._session.study.name, number, self._store.url)
