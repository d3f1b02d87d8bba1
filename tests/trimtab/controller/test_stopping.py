"""The rule of `search.stop`: by arithmetic, and in a search of fake workers."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from trimtab.controller._stopping import LastGain, StopRule
from trimtab.progress import BEYOND_MAX_DROP, Pair, share_of
from trimtab.spec._stopping import Share, Stop
from trimtab_strategies.recipe import from_plain
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import LadderJob

FLAT, STEP = [(0.02, 0.5)], [(0.01, 0.4)]


# By arithmetic


def gain_of_last(
    trials: Sequence[Sequence[Pair]], patience: int, max_drop: float, start: Sequence[Pair] = ()
) -> float | None:
    gain = LastGain(patience, max_drop)
    gain.measured(None, start)
    for number, pairs in enumerate(trials):
        gain.measured(number, pairs)
        gain.ended(number, "2026-01-01", number)
    return gain.ratio()


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_trials_that_find_nothing_new_gain_nothing(patience: int) -> None:
    trials = [FLAT, *[FLAT] * patience]
    assert gain_of_last(trials, patience, 0.01) == 0.0


def test_a_gain_is_relative_to_what_there_was() -> None:
    before, after = share_of(FLAT, 0.01), share_of([*FLAT, *STEP], 0.01)
    assert before == pytest.approx((0.09 * 0.5) / 0.11)
    assert gain_of_last([FLAT, STEP], 1, 0.01) == pytest.approx(after / before - 1)


def test_only_the_last_trials_count() -> None:
    gain = gain_of_last([FLAT, STEP, FLAT, FLAT], 2, 0.01)
    assert gain == 0.0
    gain = gain_of_last([FLAT, STEP, FLAT, FLAT], 3, 0.01)
    assert gain is not None and gain > 0.2


def test_small_gains_add_up() -> None:
    """Ten steps of half a per cent are five per cent together, which is worth going on for."""
    creeping = [[(0.05 - 0.0005 * step, 0.5)] for step in range(11)]
    each = gain_of_last(creeping, 1, 0.01)
    together = gain_of_last(creeping, 10, 0.01)
    assert each is not None and each < 0.01
    assert together is not None and together > 0.05


def test_failed_trials_gain_nothing_but_count() -> None:
    assert gain_of_last([FLAT, [], [], []], 3, 0.01) == 0.0


def test_there_is_no_answer_with_too_few_trials() -> None:
    assert gain_of_last([FLAT, FLAT], 3, 0.01) is None
    assert gain_of_last([], 1, 0.01) is None


@pytest.mark.parametrize("hopeless", [[], [(0.01 + BEYOND_MAX_DROP, 0.2)], [(0.0, 1.0)]])
def test_there_is_no_answer_before_anything_lies_within_the_reference(hopeless: Any) -> None:
    assert gain_of_last([hopeless] * 20, 10, 0.01) is None
    assert gain_of_last([*[hopeless] * 20, FLAT], 10, 0.01) is None


def test_what_was_there_before_any_trial_counts_as_before() -> None:
    assert gain_of_last([FLAT], 1, 0.01) is None
    assert gain_of_last([FLAT], 1, 0.01, start=FLAT) == 0.0


# The rule


def rows(*pairs: tuple[float, float] | None) -> tuple[list[Any], list[Any]]:
    """Trials that ended one after the other, with their points; None failed."""
    trials = [
        SimpleNamespace(
            id=number,
            number=number,
            state="complete" if pair else "failed",
            finished_at=f"2026-01-01T00:00:{number:02}+00:00",
            recipe=[{"strategy": "acc", "choices": {"number": number}}],
            result=None,
        )
        for number, pair in enumerate(pairs)
    ]
    points = [
        SimpleNamespace(id=number + 1, trial_id=number, drop=pair[0], flops_ratio=pair[1])
        for number, pair in enumerate(pairs)
        if pair
    ]
    return trials, points


def is_over(rule: StopRule, trials: list[Any], points: list[Any]) -> bool:
    rule.note_trials(trials)
    rule.note_points(points)
    return rule.gains_little()


@pytest.mark.parametrize(
    ("better_by", "said"), [(0.0004, "0.44%"), (0.0, "nothing"), (1e-7, "next to nothing")]
)
def test_the_rule_says_how_much_was_added(better_by: float, said: str) -> None:
    rule = StopRule(Stop(gain=Share(0.01), patience=2), 0.01)
    assert is_over(rule, *rows((0.02, 0.5), None, (0.02 - better_by, 0.5)))
    assert rule.line == (
        f"stopped: the last 2 trials added {said} to the hypervolume (search.stop.gain 1%)"
    )


def test_a_late_success_lets_the_search_go_on() -> None:
    """As when what was running yet when the search had stalled comes to a good end."""
    rule = StopRule(Stop(patience=2), 0.01)
    assert is_over(rule, *rows((0.02, 0.5), None, None))
    assert not is_over(rule, *rows((0.02, 0.5), None, None, (0.0, 0.4)))
    assert rule.line is None


def test_without_a_rule_nothing_is_over() -> None:
    assert not is_over(StopRule(None, 0.01), *rows((0.02, 0.5), None, None))


# In a search


def stop_lines(bench: Any) -> list[str]:
    return [note for note in bench.reporter.notes if note.startswith("stopped")]


def test_a_search_without_a_rule_takes_all_its_trials(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=9))
    assert len(bench.trials()) == 9 and stop_lines(bench) == []


def test_a_search_that_stalls_ends_early_and_says_so(bench: Any, fake: Any) -> None:
    spec = bench.spec(search__trials=30, search__stop={"gain": "5%", "patience": 3})
    bench.run(fake(), spec)
    assert 4 <= len(bench.trials()) < 30
    (line,) = stop_lines(bench)
    assert line.startswith("stopped: the last 3 trials added ")
    assert line.endswith(" to the hypervolume (search.stop.gain 5%)")
    assert bench.study().state == "finished" and bench.problems() == []
    assert len(bench.emitted) == 1, "the best point is delivered as ever"


def test_a_search_that_has_stalled_starts_nothing_when_it_is_run_again(
    bench: Any, fake: Any
) -> None:
    spec = bench.spec(search__trials=30, search__stop={"gain": "5%", "patience": 3})
    bench.run(fake(), spec)
    before, lines = bench.trials(), stop_lines(bench)
    bench.run(fake(), spec)
    assert bench.trials() == before and stop_lines(bench) == lines * 2


def test_taking_the_rule_away_lets_the_search_go_on(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=12, search__stop={"gain": "5%", "patience": 3}))
    assert len(bench.trials()) < 12
    bench.run(fake(), bench.spec(search__trials=12))
    assert len(bench.trials()) == 12


@pytest.mark.parametrize("slots", [1, 3])
def test_the_same_decision_comes_out_after_an_interruption(
    bench: Any, fake: Any, slots: int
) -> None:
    """What runs may finish; whoever comes back decides from the tables alone."""
    spec = bench.spec(search__trials=30, search__stop={"gain": "5%", "patience": 3})
    bench.run(fake(slots=slots), spec)
    n_tried, states = len(bench.trials()), set(bench.states())
    assert states == {"complete"} and n_tried < 30
    bench.run(fake(slots=slots), spec)
    assert len(bench.trials()) == n_tried


def test_recommended_recipes_are_all_tried_first(bench: Any, fake: Any) -> None:
    """Even when the first of them gains nothing for long."""
    from trimtab.controller._space import RecipeSpace

    names = ["fisher", "early_exit", "acc", "ltp"]
    recommended = RecipeSpace({name: {} for name in names}, 5000).anchors()
    spec = bench.spec(
        budget__flops="90%",
        search__strategies=names,
        search__trials=40,
        search__stop={"gain": "100%", "patience": 1},
    )

    def script(job: Any, nth: int) -> Any:
        is_first = isinstance(job, LadderJob) and job.strategy == "fisher"
        return None if is_first or not isinstance(job, LadderJob) else Failure("error", "no")

    bench.run(fake(script), spec)
    tried = [from_plain(trial.recipe) for trial in bench.trials()]
    assert set(tried) == set(recommended), "and nothing is drawn in between that gains nothing"
    assert len(stop_lines(bench)) == 1


@pytest.mark.parametrize("slots", [1, 3])
def test_what_is_recommended_only_later_is_tried_as_well(
    bench: Any, fake: Any, slots: int, seed: int
) -> None:
    """Which combinations are recommended depends on what did best alone, until the end."""
    from trimtab.controller._history import History
    from trimtab.controller._sampler import NOTHING, planned
    from trimtab.controller._space import RecipeSpace
    from trimtab.selection import Limits

    names = ["fisher", "early_exit", "ltp"]
    space = RecipeSpace({name: {} for name in names}, 5000)
    spec = bench.spec(
        budget__flops="90%",
        search__strategies=names,
        search__trials=60,
        search__seed=seed % 1000,
        search__stop={"gain": "100%", "patience": 1},
    )
    bench.run(fake(slots=slots), spec)
    told = History(bench.store, bench.study().id, Limits(**bench.study().limits)).told()
    tried = {each.recipe for each in told}
    assert len(stop_lines(bench)) == 1 and tried >= set(planned(space, NOTHING, told))
    n_tried = len(told)
    bench.run(fake(slots=slots), spec)
    assert len(bench.trials()) == n_tried, "who comes back decides the same"


def test_a_search_in_which_all_fails_is_not_called_stalled(bench: Any, fake: Any) -> None:
    from trimtab.errors import NothingFinishedError

    spec = bench.spec(search__trials=6, search__stop={"patience": 2})
    broken = fake(lambda job, nth: Failure("error", "no") if isinstance(job, LadderJob) else None)
    with pytest.raises(NothingFinishedError):
        bench.run(broken, spec)
    assert bench.states() == ["failed"] * 6 and stop_lines(bench) == []


def test_one_trial_is_told_in_the_singular(bench: Any, fake: Any) -> None:
    bench.run(fake(), bench.spec(search__trials=9, search__stop={"gain": "100%", "patience": 1}))
    (line,) = stop_lines(bench)
    assert line.startswith("stopped: the last trial added ")


def test_the_status_of_a_run_tells_the_hypervolume(bench: Any, fake: Any) -> None:
    seen: list[float | None] = []
    bench.reporter.update = lambda status: seen.append(status.hypervolume)
    bench.run(fake())
    assert seen[0] is None
    known = [value for value in seen if value is not None]
    assert known == sorted(known) and 0 < known[0] <= known[-1]
    points = [(point.drop, point.flops_ratio) for point in bench.store.points(bench.study().id)]
    assert known[-1] == pytest.approx(share_of(points, 0.10))
