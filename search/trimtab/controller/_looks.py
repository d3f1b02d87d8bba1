"""Looks at recipes with few rows, before all rows are spent on them.

A recipe that trains is first made with a share of the training rows and judged on some of the rows
that decide; the best of those looked at alike are made with more. What a look saw is in its trial's
result and not among the points: it tells too little to deliver anything by. A trial is complete
once it was looked at, and goes on as a complete trial that is extended does, so that nothing waits
and whatever ends the search leaves it whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from trimtab.controller._baseline import Baseline
from trimtab.controller._history import History, recipe_of
from trimtab.controller._ranking import Looked, Setting, next_to_go_on, rows_of, unbeaten
from trimtab.controller._session import Session
from trimtab.controller._steps import Link, Steps, look_name, trains
from trimtab.controller._underway import Run
from trimtab.forge import stored_measurement, with_measurement
from trimtab.selection import Limits
from trimtab_storage import TrialRow
from trimtab_strategies.recipe import Recipe
from trimtab_workers.jobs import Look, MeasureJob, Measurement, RungResult

Costs = Sequence[float]


class Looks:
    """Decides what is looked at and what goes on; without ``search.looks`` nothing is.

    ``exempt`` are recipes that get all rows at once, since they are to be known in any case.
    """

    def __init__(
        self,
        session: Session,
        baseline: Baseline,
        steps: Steps,
        history: History,
        limits: Limits,
        exempt: Collection[Recipe],
    ) -> None:
        self._session, self._baseline, self._steps = session, baseline, steps
        self._history, self._limits, self._exempt = history, limits, frozenset(exempt)
        shares = [share.ratio for share in session.spec.search.looks or ()]
        n_rows = baseline.measurement.n
        self._looks = [Look(share, rows_of(share, n_rows)) for share in shares]
        self._dense: dict[int, float] = {}

    def prepare(self) -> None:
        """Measures the dense model on the rows that looks are judged on; nothing else may run."""
        for look in self._looks:
            self._dense[look.n_rows] = self._dense_metric(look).metric

    def links(self, recipe: Recipe, costs: Costs) -> tuple[Link, ...]:
        """Gives the steps of a trial that starts: those of its first look, or all in full."""
        whole = self._steps.links(recipe, costs)
        to_train = any(trains(link.step) and self._steps.missing(link) for link in whole)
        if not self._looks or recipe in self._exempt or not to_train:
            return whole
        return self._steps.links(recipe, costs, self._looks[0])

    def next_run(self, running: Sequence[Run], costs: Costs, *, is_last: bool) -> Run | None:
        """Gives the trial that has earned more rows; the largest shares come first.

        Shares that the spec no longer names count too, or their trials would be left behind.
        """
        busy = {run.trial.number for run in running} | self._history.given_up
        last = {self._history.looks[number][-1].share for number in self._history.looked_at}
        for share in sorted(last, reverse=True):
            number = self._next_from(share, busy, is_last)
            if number is not None:
                further = next((look for look in self._looks if look.share > share), None)
                return self._go_on(self._history.looked_at[number], costs, further)
        return None

    def given_up(self, run: Run, reason: str) -> dict[str, Any]:
        """Gives the result of a trial that failed with more rows: it is not tried for ever."""
        share = _in_words(run.links[-1].look)
        said = f"failed with {share} training rows: {reason}"
        return {**(run.trial.result or {}), "given_up": True, "reason": said}

    def result(self, run: Run, results: Sequence[RungResult], n_points: int) -> dict[str, Any]:
        """Gives what is recorded as a trial's result, with all looks that there were."""
        looks, look = self._history.looks.get(run.trial.number, ()), run.links[-1].look
        found: dict[str, Any] = {"points": n_points, "made": len(results)}
        if look is not None:
            looks = (*looks, self._looked(run.links[-1], look, results))
            reason = f"so far looked at with {100 * look.share:.3g}% of the training rows only"
            found |= {"only_looked_at": True, "reason": reason}
        return {**found, "looks": [each.to_plain() for each in looks]} if looks else found

    def _next_from(self, share: float, busy: set[int], is_last: bool) -> int | None:
        looks = self._history.looks
        here = {n: seen for n, all_ in looks.items() for seen in all_ if seen.share == share}
        last = {n for n in here if looks[n][-1].share == share and n in self._history.looked_at}
        gone_on = (here.keys() - last) | (here.keys() & busy)
        return next_to_go_on(here, gone_on, self._limits, is_last=is_last)

    def _go_on(self, trial: TrialRow, costs: Costs, further: Look | None) -> Run:
        said = f"trial {trial.number} goes on with {_in_words(further)} training rows"
        self._session.reporter.note(said)
        links = self._steps.links(recipe_of(trial), costs, further)
        return Run(trial, trial.attempts, links, is_extension=True)

    def _looked(self, link: Link, look: Look, results: Sequence[RungResult]) -> Looked:
        made = {result.key: result.measurement for result in results}
        found = [made.get(key) or self._steps.measured(link, key) for _, key in link.rungs]
        settings = [s for each in found if each is not None for s in self._settings(look, each)]
        return Looked(look.share, unbeaten(settings))

    def _settings(self, look: Look, measured: Measurement) -> list[Setting]:
        dense, flops = self._dense[look.n_rows], self._baseline.measurement.flops
        plain: Mapping[str, Any] = {"metric": measured.metric, "flops": measured.flops}
        return [
            Setting(dense - each["metric"], each["flops"], each["flops"] / flops)
            for each in (plain, *measured.settings)
        ]

    def _dense_metric(self, look: Look) -> Measurement:
        session, key = self._session, self._baseline.key
        name = look_name(session.place.task.metric, self._baseline.survey.data_fingerprint, look)
        row = session.store.artifact(key)
        assert row is not None, "the baseline was made before any trial"
        known = stored_measurement(row, name)
        if known is not None:
            return known
        job = MeasureJob(session.place, key, "search", n_rows=look.n_rows)
        measured: Measurement = session.runner.run(job, "measuring the baseline for looks")
        session.store.record_artifact(session.lease, with_measurement(row, name, measured))
        return measured


def _in_words(look: Look | None) -> str:
    return "all" if look is None else f"{100 * look.share:.3g}% of the"
