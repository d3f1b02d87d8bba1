"""The trial loop: recipes are proposed, their missing steps are sent out, results are recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from trimtab.controller._baseline import Baseline
from trimtab.controller._cleanup import drop_weights_off_frontiers, others_at_work
from trimtab.controller._history import History, is_only_looked_at, recipe_of
from trimtab.controller._known_prices import remember
from trimtab.controller._ladder import budget_rung, ladder
from trimtab.controller._limits import budget_ratio
from trimtab.controller._looks import Looks
from trimtab.controller._prospect import Prospect
from trimtab.controller._recording import Recorder
from trimtab.controller._runner import POLL_S
from trimtab.controller._sampler import Told, planned, propose
from trimtab.controller._session import Session
from trimtab.controller._stalled import StallWatch
from trimtab.controller._steps import Steps
from trimtab.controller._stopping import StopRule
from trimtab.controller._stopwatch import Stopwatch
from trimtab.controller._underway import Run, Underway
from trimtab_storage import PointRow, TrialRow, TrialState
from trimtab_strategies.recipe import Recipe, stable_key, to_plain

GRACE_S = 30.0
"""How long running trials may go on when the time is up."""

MOST_STARTED = 8
"""How many trials are started before results are looked at again, so that none waits for long."""

MOST_HOPELESS = 50
"""How many proposals are passed over in a row, as a step is known to fail or they cost too much."""

CLEAN_EVERY_S = 1.0

N_EXTENDED = 2
"""How many of the best recipes get a rung of their own for a budget that came later."""

MOST_CORRECTIONS = 2
"""How often a run aims lower: what is then still missed is no fault of what it went by."""


class TrialLoop:
    """Runs trials until there are enough, the time is up, or nothing new can be proposed."""

    def __init__(
        self,
        session: Session,
        baseline: Baseline,
        prospect: Prospect,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        assert session.limits is not None
        self._session, self._prospect = session, prospect
        self._store, self._lease = session.store, session.lease
        self._limits, self._executor = session.limits, session.runner.executor
        self._stopwatch = stopwatch
        self._flops_budget = budget_ratio(self._limits, baseline.measurement.flops)
        self._extended: set[tuple[int, float]] = set()
        self._budget, self._corrected = self._flops_budget, list[float | None]()
        if stopwatch is not None:
            self._budget = stopwatch.aim(self._flops_budget)
        expectation = None if stopwatch is None else stopwatch.expectation
        prices = None if stopwatch is None else stopwatch.prices()
        if prices is not None:
            remember(session, prices)
        self._steps = Steps(session.store, session.place, baseline, self._limits, prices)
        self._history = History(session.store, session.study.id, self._limits, expectation)
        self._cleaned_s, self._is_held_up = time.monotonic(), False
        to_try = [*planned(prospect.space, prospect.known), *prospect.space.recommended()]
        self._looks = Looks(session, baseline, self._steps, self._history, self._limits, to_try)
        recorder = Recorder(
            session, self._steps, self._history, self._looks, stopwatch, self._clean_up_sometimes
        )
        self._underway = Underway(session, self._steps, recorder.finish, recorder.fail)
        recorder.underway = self._underway
        session.room.make_room = self._clean_up
        rule = StopRule(session.spec.search.stop, self._limits.max_drop)
        self._stalled = StallWatch(rule, session.store, session.study.id, self._history)
        self._wanted: tuple[Recipe, ...] = ()
        self._why_over: str | None = None

    def run(self) -> None:
        """Runs until the end; on the way out nothing of ours is left on the executor."""
        try:
            self._session.refresh_best()
            self._looks.prepare()
            self._start_extensions(self._budget)
            self._search()
            while self._settle():
                self._search()
            self._clean_up()
            self._session.show()
        finally:
            self._underway.cancel()

    def _search(self) -> None:
        """Starts trials and takes results until there is no more to start, or no more time."""
        while True:
            self._time_points()
            self._underway.unpark()
            has_more = self._fill()
            if self._session.remaining_s <= 0:
                self._wind_down()
                return
            if not (self._underway.runs or has_more or self._is_held_up):
                break
            if not self._underway.n_busy:
                self._underway.resume()
            self._turn(0.0 if has_more else POLL_S)
        if self._why_over is not None:
            self._session.reporter.note(self._why_over)

    def _turn(self, wait_s: float = POLL_S) -> None:
        self._session.tick()  # first, because an inline executor works inside `wait`
        for outcome in self._executor.wait(wait_s):
            self._underway.handle(outcome)
        if self._session.room.is_short and not self._underway.n_busy:
            time.sleep(POLL_S)  # as `wait` does not, with nothing to wait for

    def _wind_down(self) -> None:
        """Lets what runs finish: within the grace, or, if nothing was measured yet, to its end."""
        waiting = "; waiting for what is nearly done" if self._underway.n_busy else ""
        self._session.reporter.note(f"the time is up{waiting}")
        until = time.monotonic() + GRACE_S
        while self._underway.n_busy:
            counts = self._store.trial_counts(self._session.study.id)
            if counts[TrialState.COMPLETE] > 0 and time.monotonic() > until:
                return
            self._turn()
        if not self._store.trial_counts(self._session.study.id)[TrialState.COMPLETE]:
            self._session.room.check_nothing_missed()

    def _time_points(self) -> None:
        """Times points when that is due, once what runs has come back: the slot is exclusive."""
        if self._stopwatch is None or not self._stopwatch.is_due():
            return
        while (busy := self._underway.n_busy) and self._session.remaining_s > 0:
            if not self._stopwatch.may_wait():
                return
            with self._session.spending.waiting(busy, self._executor.slots):
                self._turn()
        if not self._underway.n_busy:
            self._note_timed(self._stopwatch.take())
            self._correct()

    def _correct(self) -> None:
        """Has smaller models made of the best recipes, where those made for the budget missed."""
        if self._stopwatch is None or self._session.remaining_s <= 0:
            return
        aim = self._stopwatch.aim(self._flops_budget)
        is_lower = aim is not None and self._budget is not None and aim < self._budget
        if is_lower and aim not in self._corrected and len(self._corrected) < MOST_CORRECTIONS:
            self._corrected.append(aim)
        if self._corrected:
            self._start_extensions(self._corrected[-1])

    def _settle(self) -> bool:
        """Times what would be delivered; what still runs by now is given up for it.

        Tells whether there is more to make, as what was made for the budget missed it.
        """
        if self._stopwatch is None:
            return False
        self._underway.cancel()
        self._note_timed(self._stopwatch.settle())
        self._correct()
        return bool(self._underway.runs) and self._session.remaining_s > 0

    def _note_timed(self, points: Sequence[PointRow]) -> None:
        self._history.note_timed(points)
        self._session.consider(points)

    # What to start

    def _fill(self) -> bool:
        """Starts trials while there is room; tells whether there may be more to start."""
        for _ in range(MOST_STARTED):
            run = self._next_run() if self._has_room() else None
            if run is None:
                return False
            self._underway.start(run)
            # Where all is reused nothing is ever waited for.
            self._session.tick()
        return True

    def _has_room(self) -> bool:
        # A trial that waits for another's statistics takes no slot, but there is no point in
        # collecting many of those.
        busy, slots = self._underway.n_busy, self._executor.slots
        return busy < slots and len(self._underway.runs) < 2 * slots

    def _next_run(self) -> Run | None:
        """Gives a trial that goes on with more rows, or else one that starts."""
        run = self._going_on(is_last=False)
        if run is not None:
            return run
        trial = self._next_trial()
        if trial is None:
            is_last = not self._underway.runs and not self._is_held_up
            return self._going_on(is_last=True) if is_last else None
        attempt = self._store.start_trial(self._lease, trial.id)
        self._history.note(trial, TrialState.RUNNING)
        return Run(trial, attempt, self._looks.links(recipe_of(trial), ladder(self._budget)))

    def _going_on(self, *, is_last: bool) -> Run | None:
        if self._session.remaining_s <= 0:
            return None
        return self._looks.next_run(self._underway.runs, ladder(self._budget), is_last=is_last)

    def _next_trial(self) -> TrialRow | None:
        self._is_held_up = False
        search, waiting = self._session.spec.search, self._history.waiting
        n_started = len(self._history) - len(waiting)
        # Even when the baseline took all the time, a study that was never tried has one trial.
        if n_started >= search.trials or (n_started and self._session.remaining_s <= 0):
            return None
        if not waiting and self._is_stalled():
            return None
        self._is_held_up = not self._session.room.look(self._underway.n_busy + 1)
        if self._is_held_up:
            return None
        if waiting:
            return waiting[min(waiting)]
        recipe = self._propose()
        if recipe is None:
            return None
        plain = to_plain(recipe)
        trial = self._store.add_trial(self._lease, plain, stable_key(plain))
        self._history.note(trial, trial.state)
        return trial

    def _is_stalled(self) -> bool:
        """Asks for the end of the search: it gains little, and nothing recommended is left."""
        self._wanted = self._left_to_try() if self._stalled.gains_little() else ()
        self._why_over = None if self._wanted else self._stalled.line
        return self._why_over is not None

    def _left_to_try(self) -> tuple[Recipe, ...]:
        """Gives the recipes that are recommended by now, were not tried and are not hopeless."""
        told = self._history.told()
        tried = {each.recipe for each in told}
        wanted = planned(self._prospect.space, self._prospect.known, told)
        return tuple(
            recipe for recipe in wanted if recipe not in tried and not self._is_hopeless(recipe)
        )

    def _propose(self) -> Recipe | None:
        """Proposes a recipe, and another where it is hopeless."""
        history, seed = self._history.told(), self._session.spec.search.seed
        space, known = self._prospect.space, self._prospect.known
        if self._wanted:  # nothing else keeps the search from being over
            known = replace(known, later=(*known.later, *self._wanted))
        hopeless: list[Told] = []
        for _ in range(MOST_HOPELESS):
            so_far, number = [*history, *hopeless], len(history)
            recipe = propose(space, so_far, seed=seed, number=number, known=known)
            if recipe is None:
                return None
            if not self._is_hopeless(recipe):
                return recipe
            hopeless.append(Told(recipe, None))
            self._session.tick()
        last = hopeless[-1].recipe
        return None if self._prospect.is_too_dear(last) else last

    def _is_hopeless(self, recipe: Recipe) -> bool:
        """Tells whether a step is known to fail, or a recipe's least cost is over the budget."""
        if self._prospect.is_too_dear(recipe):
            return True
        costs = ladder(self._budget)
        whole, first = self._steps.links(recipe, costs), self._looks.links(recipe, costs)
        return self._underway.is_hopeless([*whole, *first])

    def _start_extensions(self, budget: float | None) -> None:
        """Gives the best recipes so far a rung that spends exactly a budget."""
        rung = budget_rung(budget)
        if rung is None:
            return
        complete = self._store.trials(self._session.study.id, TrialState.COMPLETE)
        measured = {point.artifact_key for point in self._session.points()}
        told = self._history.told()
        scored = [(trial, told[trial.number].scores) for trial in complete]
        ranked = sorted(
            (scores.violation, scores.drop, trial.number, trial)
            for trial, scores in scored
            if scores is not None and not is_only_looked_at(trial)
        )
        chains = [(t, self._steps.links(recipe_of(t), (rung,))) for *_, t in ranked]
        aiming = [(t, links) for t, links in chains if links[-1].rungs[0][0] == rung]
        for trial, links in aiming[:N_EXTENDED]:
            is_new = (trial.id, rung) not in self._extended  # one that failed is not tried for ever
            if is_new and not measured.issuperset(key for _, key in links[-1].rungs):
                self._extended.add((trial.id, rung))
                self._underway.start(Run(trial, trial.attempts, links, is_extension=True))

    # Disk

    def _clean_up_sometimes(self) -> None:
        if time.monotonic() - self._cleaned_s > CLEAN_EVERY_S:
            self._clean_up()

    def _clean_up(self) -> None:
        """Drops the weights that nothing needs; not after every trial, since it takes a commit."""
        in_use = set(self._underway.in_use())
        if self._stopwatch is not None:
            in_use |= self._stopwatch.wanted_keys()
        shared = others_at_work(self._store, self._session.study.id)
        ours = self._underway.own if shared else None
        dropped = drop_weights_off_frontiers(self._store, self._session.files, in_use, ours)
        self._underway.dropped(dropped)
        self._cleaned_s = time.monotonic()
