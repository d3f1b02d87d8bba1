"""What the sampler is told: kept up to date trial by trial, and the same when read anew."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab.controller import _trials
from trimtab.controller._history import History
from trimtab.controller._sampler import Told
from trimtab.selection import Limits
from trimtab_workers.executors import Failure
from trimtab_workers.jobs import LadderJob


@pytest.mark.parametrize("slots", [1, 3])
def test_what_is_kept_up_to_date_is_what_is_read_anew(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    """At every proposal of a search with crashes and failures in it."""
    propose, seen = _trials.propose, []
    limits = Limits(max_drop=0.1, max_flops_ratio=0.5)

    def compared(space: Any, history: list[Told], **named: Any) -> Any:
        assert history == History(bench.store, bench.study().id, limits).told()
        seen.append(history)
        return propose(space, history, **named)

    def script(job: Any, nth: int) -> Any:
        n_sent = sum(isinstance(sent, LadderJob) for sent in executor.sent)
        if not isinstance(job, LadderJob) or n_sent % 4:
            return None
        return Failure("crashed" if n_sent % 8 else "error", "no")

    monkeypatch.setattr(_trials, "propose", compared)
    executor = fake(script, slots=slots)
    bench.run(executor, bench.spec(search__trials=14))
    assert len(seen) == 14
    told = seen[-1]
    assert any(one.scores is None and not one.is_running for one in told), "some failed"
    assert any(one.on_frontier for one in told) and not all(one.on_frontier for one in told)


def test_a_study_that_goes_on_is_told_of_all_before(
    bench: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(fake(), bench.spec(search__trials=4))
    propose, seen = _trials.propose, []

    def kept(space: Any, history: list[Told], **named: Any) -> Any:
        seen.append(history)
        return propose(space, history, **named)

    monkeypatch.setattr(_trials, "propose", kept)
    bench.run(fake(), bench.spec(search__trials=5))
    (history,) = seen
    assert len(history) == 4 and all(one.scores is not None for one in history)
