"""A very long study takes no more files and time at its end, and little more memory and disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from trimtab.controller import _sampler
from trimtab_storage import Store

pytestmark = pytest.mark.slow

SAMPLES, ASK_EVERY = 20, 20
MOST_TOLD = 100
"""So low that a short study comes to it too."""
MOST_GROWN = 0.05
"""By how much the memory of a study of a thousand trials may grow in their second half."""
KEPT_KIB = 12, 6
"""What may stay in memory of a trial: its recipe and the settings that decide its scores.

Up to two thousand are kept as Optuna takes them, too, which is what most of a short study is.
"""


@pytest.fixture
def instant(fake: Any) -> Any:
    """An executor that has every value at once, in this process, and keeps nothing."""

    class Instant(fake):  # type: ignore[misc]
        n = 0

        def submit(self, job: Any, *, timeout_s: float | None = None) -> int:
            self.n += 1
            self._queue.append((self.n, job, None))
            return self.n

    return Instant


def watch(stage: Any, patch: pytest.MonkeyPatch, instant: Any, trials: int) -> None:
    """Lets a controller note what it takes, and how many trials each proposal is made from."""
    told, process, complete = [0, 0], psutil.Process(), Store.complete_trial
    telling, done = _sampler.most_telling, 0

    def some_telling(history: Any, *rest: Any) -> Any:
        # A look back for every proposal would take too long: it is done for one in so many.
        told[0] += 1
        given = telling(history, *rest) if told[0] % ASK_EVERY == 0 else []
        told[1] = max(told[1], len(given))
        return given

    def complete_watched(store: Store, *arguments: Any, **named: Any) -> Any:
        nonlocal done
        ids = complete(store, *arguments, **named)
        done += 1
        if done % (trials // SAMPLES) == 0:
            wal = stage.lab.folder / "trimtab.db-wal"
            taken = {
                "trials": done,
                "rss": process.memory_info().rss,
                "files": process.num_fds(),
                "wal": wal.stat().st_size,
                "told": told[1],
            }
            stage.say("soak", "", taken, os.getpid())
        return ids

    patch.setattr("trimtab_workers.executors.make_executor", lambda *a, **named: instant(slots=4))
    patch.setattr(_sampler, "MOST_TOLD", MOST_TOLD)
    patch.setattr(_sampler, "most_telling", some_telling)
    patch.setattr(Store, "complete_trial", complete_watched)


def test_long_study_takes_little_more_at_its_end_than_at_its_beginning(
    stage: Any, instant: Any, size: Callable[..., int]
) -> None:
    trials, lab = size(1000, 10_000), stage.lab
    stage.write_spec(search__strategies=["fisher"], search__trials=trials, search__time="100 h")
    process = stage.start(prepare=lambda patch: watch(stage, patch, instant, trials))
    assert stage.end(process, 7200) == 0, lab.said()
    stage.assert_finished({"complete": trials})
    taken = [line.what for line in lab.log() if line.event == "soak"]
    warm = taken[SAMPLES // 2 :]
    print([round(each["rss"] / 2**20, 1) for each in taken])
    assert len(taken) == SAMPLES
    grown = (warm[-1]["rss"] - warm[0]["rss"]) / (warm[-1]["trials"] - warm[0]["trials"])
    assert grown <= size(*KEPT_KIB) * 1024, f"{grown / 1024:.1f} KiB a trial"
    if trials <= 1000:
        assert warm[-1]["rss"] <= (1 + MOST_GROWN) * warm[0]["rss"]
    files = [each["files"] for each in warm]
    assert max(files) - min(files) <= 5
    assert max(each["wal"] for each in taken) <= 64 * 2**20
    assert (lab.folder / "trimtab.db").stat().st_size <= 10 * 1024 * trials
    # The time of a proposal goes with what it is made from.
    assert max(each["told"] for each in taken) == MOST_TOLD
