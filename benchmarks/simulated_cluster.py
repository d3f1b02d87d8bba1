"""Does one controller keep a thousand workers busy, and does it lose or double what they give?

Real controller and database; workers and their clock are simulated, and some of them crash, err or
are lost, a few with a result that comes long after it was given up. The busy share is that of all
workers from the first trial to the moment in which the last one was handed out: until then there
was work. Workers that restart count as idle.

To end in minutes, every so many recipes alone are asked of the real sampler; for each of the
others, which are drawn uniformly, as much time passes as the sampler took when it was last asked.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import _played
from _overhead import Draws
from _played import AuditedStore, Stopwatch
from _simulated import Clock, ModuleTime, SimulatedCluster, busy_share

from trimtab_storage import check_invariants
from trimtab_workers.jobs import LadderJob, StatisticsJob

N_WORKERS, N_TRIALS, N_ROWS, SAMPLE_EVERY = 1_000, 6_000, 8, 50
STUDY, ENDED = "cluster", ("complete", "failed")

BENCHMARKS = [
    {
        "name": "simulated-cluster",
        "goal": 95.0,
        "unit": "% of the time of 1,000 simulated workers busy while there is work",
        "better": "higher",
    },
    {
        "name": "simulated-cluster-lost",
        "goal": 0.0,
        "unit": "results lost or doubled, of 1,000 simulated workers",
        "better": "lower",
    },
]


class TimedStore(AuditedStore):
    """A store that notes when each trial was first handed out, by the simulated clock."""

    clock: Clock

    def start_trial(self, lease: Any, trial_id: int) -> int:
        """Starts and notes."""
        attempt = super().start_trial(lease, trial_id)
        self.handed_out.setdefault(trial_id, self.clock.now())
        return attempt


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Runs one study on the cluster and gives both figures."""
    clock, asked = Clock(), Stopwatch()
    cluster = SimulatedCluster(clock, N_WORKERS, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = _played.spec_of(folder, STUDY, N_TRIALS, seed)
        with (
            TimedStore.open(f"sqlite:///{folder}/trimtab.db", controller=True) as store,
            _played.replaced("propose", lambda real: charged(real, asked, clock, seed)),
            _played.replaced("time", lambda module: ModuleTime(clock)),
        ):
            store.clock = clock
            started = time.perf_counter()
            _played.run_played(spec, store, cluster)
            real_s = time.perf_counter() - started
            wrong = _wrong(store, cluster, folder / "trimtab.db")
            begin, *_, end = sorted(store.handed_out.values())
    rows = _shares(cluster.busy, begin, end)
    jobs = Counter(type(job).__name__ for job in cluster.told)
    about = {
        "real_s": real_s,
        "sampler_asked": asked.calls,
        "sampler_s_each": asked.seconds / asked.calls,
        "sampler_s_at_last": asked.last_s,
        "simulated_s": end - begin,
        "trials": N_TRIALS,
        "jobs_told": dict(jobs),
        "jobs_failed": cluster.n_failed,
        "results_too_late": cluster.n_late,
    }
    common = {"seeds": [seed]}
    return {
        "simulated-cluster": {
            "figure": 100 * busy_share(cluster.busy, begin, end, N_WORKERS),
            "baseline": "workers that never wait",
            "rows": [*rows, about],
            **common,
        },
        "simulated-cluster-lost": {
            "figure": sum(row["count"] for row in wrong),
            "baseline": "none: an absolute bound",
            "rows": [*wrong, about],
            **common,
        },
    }


def charged(
    propose: Callable[..., Any], asked: Stopwatch, clock: Clock, seed: int
) -> Callable[..., Any]:
    """Gives what proposes in the sampler's place, and takes as long as the sampler would."""
    draws = Draws(asked.timed(propose), SAMPLE_EVERY, seed)

    def give(*arguments: Any, **named: Any) -> Any:
        calls = asked.calls
        recipe = draws(*arguments, **named)
        if asked.calls == calls:
            clock.skip_to(clock.now() + asked.last_s)
        return recipe

    return give


def _shares(spans: Sequence[tuple[float, float]], begin: float, end: float) -> list[dict[str, Any]]:
    """Gives the busy share of each eighth of the time."""
    step = (end - begin) / N_ROWS
    edges = [(begin + at * step, begin + (at + 1) * step) for at in range(N_ROWS)]
    return [
        {"until_s": to - begin, "busy_%": 100 * busy_share(spans, since, to, N_WORKERS)}
        for since, to in edges
    ]


def _wrong(store: AuditedStore, cluster: SimulatedCluster, path: Path) -> list[dict[str, Any]]:
    """Compares what the cluster told with what the database holds, in several ways."""
    study = store.study(STUDY)
    assert study is not None
    trials = store.trials(study.id)
    complete = {trial.id for trial in trials if trial.state == "complete"}
    known = {row.key for row in store.artifacts()}
    counts: dict[str, Callable[[], int]] = {
        "made and told, but not recorded": lambda: sum(
            not known.issuperset(_keys(job)) for job in cluster.told
        ),
        "trials that did not end": lambda: N_TRIALS - sum(t.state in ENDED for t in trials),
        "complete trials not recorded once": lambda: len(complete ^ set(store.recorded)),
        "trials recorded again": lambda: sum(n - 1 for n in store.recorded.values()),
        "points there twice": lambda: _doubled(path),
        "broken invariants": lambda: len(check_invariants(store, study.id)),
    }
    return [{"what": what, "count": count()} for what, count in counts.items()]


def _keys(job: Any) -> list[str]:
    if isinstance(job, LadderJob):
        return [key for _, key in job.rungs]
    return [job.key] if isinstance(job, StatisticsJob) else []


def _doubled(path: Path) -> int:
    query = "SELECT count(*) - count(DISTINCT artifact_key || ' ' || knobs || split) FROM point"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])
