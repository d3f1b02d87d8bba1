"""What earlier trials tell: their recipes as they are now named, and how well they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from trimtab.controller._expected import Expectation
from trimtab.controller._ranking import Looked, Setting
from trimtab.controller._sampler import Told
from trimtab.controller._steps import CONSTRAINT, without_constraint
from trimtab.selection import Limits, deciding, recipe_scores
from trimtab_storage import PointRow, Reader, TrialRow, TrialState
from trimtab_strategies import registry
from trimtab_strategies.base import completed
from trimtab_strategies.recipe import Recipe, Step, from_plain

PENDING = (TrialState.WAITING, TrialState.RUNNING)


class History:
    """All trials of a study as the sampler sees them, read once and then kept up to date.

    ``looks`` are what was seen of trials with few rows, in order; ``looked_at`` the trials of which
    there is nothing else, and ``given_up`` those of them that failed with more. ``on_change`` is
    called with the id of each trial of which anything is said.

    Only the controller that holds the lease writes trials, so that it need not read them again:
    it says what became of each. Points are read as they come, each once. So a proposal costs the
    same however many trials there were. With an ``expectation``, points that were not timed count
    with the latency that is expected of them.
    """

    def __init__(
        self,
        store: Reader,
        study_id: int,
        limits: Limits,
        expectation: Expectation | None = None,
    ) -> None:
        self.waiting: dict[int, TrialRow] = {}
        self._store, self._study_id, self._limits = store, study_id, limits
        self._expectation = expectation
        self._told: list[Told] = []
        self._numbers: dict[Recipe, int] = {}
        self._steps: dict[Step, Step] = {}
        self._complete: set[int] = set()
        self.n_ended = 0
        self._points: dict[Recipe, list[Setting]] = {}
        self.looks: dict[int, tuple[Looked, ...]] = {}
        self.looked_at: dict[int, TrialRow] = {}
        self.given_up: set[int] = set()
        self._seen_id = 0
        self.on_change: Callable[[int], object] = lambda trial_id: None
        for row in store.trials(study_id):
            self.note(row, row.state)

    def __len__(self) -> int:
        return len(self._told)

    def note(self, row: TrialRow, state: TrialState) -> None:
        """Takes down in which state a trial is now; a new one has the next number."""
        if row.number == len(self._told):
            # Neighbours share most of their steps, and a long search has no room for them twice.
            recipe = tuple(self._steps.setdefault(step, step) for step in recipe_of(row))
            self._told.append(Told(recipe, None))
            self._numbers[recipe] = row.number
        recipe = self._told[row.number].recipe
        self.waiting.pop(row.number, None)
        if state == TrialState.WAITING:
            self.waiting[row.number] = row
        if state == TrialState.COMPLETE:
            self._complete.add(row.number)
            self._note_looks(row)
        self.n_ended += state not in PENDING
        self._told[row.number] = Told(recipe, None, state in PENDING)
        self._score(row.number)
        self.on_change(row.id)

    def _note_looks(self, row: TrialRow) -> None:
        looks = looks_of(row)
        if looks:
            self.looks[row.number] = tuple(look.expected(self._expectation) for look in looks)
        self.looked_at.pop(row.number, None)
        if is_only_looked_at(row):
            self.looked_at[row.number] = row
        if (row.result or {}).get("given_up"):
            self.given_up.add(row.number)

    def told(self) -> list[Told]:
        """Gives all trials by number."""
        new = self._store.points(self._study_id, after_id=self._seen_id)
        self._seen_id = new[-1].id if new else self._seen_id
        for recipe, points in by_recipe(new).items():
            # Without their recipes, knobs and names, which a long search would not have room for.
            self._points.setdefault(self._kept(recipe), []).extend(map(self._setting, points))
            if recipe in self._numbers:
                self._score(self._numbers[recipe])
        front = self._on_frontier()
        return [replace(t, on_frontier=True) if t.recipe in front else t for t in self._told]

    def note_timed(self, points: Sequence[PointRow]) -> None:
        """Takes down what was timed of points since they were read."""
        for recipe, timed in by_recipe(points).items():
            by_id = {point.id: self._setting(point) for point in timed}
            known = self._points.get(recipe, [])
            self._points[recipe] = [by_id.get(setting.id, setting) for setting in known]
            if recipe in self._numbers:
                self._score(self._numbers[recipe])

    def _kept(self, recipe: Recipe) -> Recipe:
        """Gives the equal recipe that is in memory already, if there is one."""
        return self._told[self._numbers[recipe]].recipe if recipe in self._numbers else recipe

    def _setting(self, point: PointRow) -> Setting:
        return Setting.of(point).expected(self._expectation)

    def _score(self, number: int) -> None:
        recipe = self._told[number].recipe
        own, scores = self._points.get(recipe), None
        if number in self.looked_at:
            scores = self.looks[number][-1].scores(self._limits)
        elif own and number in self._complete:
            scores = recipe_scores(own, self._limits)
            if self._expectation is None:  # else those that do not count yet may, once timed
                few = {setting.id: setting for setting in deciding(own, self._limits)}
                self._points[recipe] = list(few.values())
        if scores is not None:
            self._told[number] = replace(self._told[number], scores=scores)

    def _on_frontier(self) -> set[Recipe]:
        # What is on a frontier now may be beaten by the next point, so it is asked for each time.
        costs = [self._store.frontier(self._study_id, cost) for cost in ("flops", "latency")]
        return set(by_recipe([point for points in costs for point in points]))


def is_on_frontier(points: Sequence[PointRow]) -> bool:
    """Tells whether any of the points is on a frontier of its study."""
    return any(point.on_flops_frontier or point.on_latency_frontier for point in points)


def by_recipe(points: Sequence[PointRow]) -> dict[Recipe, list[PointRow]]:
    """Sorts points by the recipe that they are a result of, completed as those of trials are."""
    as_written: dict[Recipe, list[PointRow]] = {}
    for point in points:
        as_written.setdefault(from_plain(point.recipe), []).append(point)
    sorted_in: dict[Recipe, list[PointRow]] = {}
    for recipe, own in as_written.items():
        sorted_in.setdefault(_as_tried(_completed(recipe)), []).extend(own)
    return sorted_in


def looks_of(trial: TrialRow) -> tuple[Looked, ...]:
    """Gives what was seen of a trial with few rows, in order."""
    return tuple(map(Looked.from_plain, (trial.result or {}).get("looks", ())))


def is_only_looked_at(trial: TrialRow) -> bool:
    """Tells whether a trial was never made with all rows, so that its recipe has no points."""
    return bool((trial.result or {}).get("only_looked_at"))


def recipe_of(trial: TrialRow) -> Recipe:
    """Gives the steps of a trial, completed where an earlier version had fewer choices."""
    return _completed(from_plain(trial.recipe))


def _completed(recipe: Recipe) -> Recipe:
    return tuple(map(_completed_step, recipe))


def _completed_step(step: Step) -> Step:
    if step.strategy not in registry.names():  # of a later version, in another study
        return step
    own = {name: value for name, value in step.choices if name == CONSTRAINT}
    choices = completed(registry.get(step.strategy), without_constraint(step).choices_dict)
    return Step.of(step.strategy, {**choices, **own})


def _as_tried(recipe: Recipe) -> Recipe:
    """Takes the rung from a recipe of one step; in a longer one its cost was chosen with it."""
    return tuple(map(without_constraint, recipe)) if len(recipe) == 1 else recipe
