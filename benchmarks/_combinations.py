"""Makes a task's single strategies and combinations, and records what each model says.

The dense model of a task is fine-tuned once. For each seed (the order of the training rows, which
decides calibration rows, batches and what is held back) the chains of ``BRANCHES`` are made, with
the strategies' default choices but for what is written here, and run once over the rows to report
on at each scale of their token rule, all exits recorded. Without its exits a chain is the same
model with nobody leaving: exits on a frozen backbone do not touch it. Where exits were trained
jointly with the rest, only the model with exits counts.

Each branch of each seed is a job of its own, with one thread, one job a core. What a job recorded
is kept beside the task's dense model under a name that stands for the code that made it, so that a
run that was cut off goes on where it was, and a change in how settings are chosen trains nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import _tasks
import numpy as np

SHARES = (0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2)
WITH_EXITS = (0.45, 0.3, 0.2)
WITH_JOINT_EXITS = (0.45, 0.3)
BEFORE_TOKENS = 0.45
SETTINGS: dict[str, dict[str, Any]] = {
    "fisher": {"calibration": 1024},
    "ltp": {"soft_epochs": 1},
    "early_exit": {"joint_epochs": 1},
}
RATES, MOST_RATE = {"ltp": "lr", "acc": "lr", "early_exit": "joint_lr"}, 1e-4
JOINT = {"objective": "joint"}
MOST_ROWS = {"agnews": 1600}
"""Training rows that strategies get, where not all, so that a benchmark ends within 45 minutes."""


@dataclass(frozen=True)
class Recorded:
    """What a model kept and said at one scale of its token rule, and what that costs.

    ``singles`` names what it is with nobody leaving, None where that is nothing of its own;
    ``together`` what it is with its exits, None where it has none; ``about`` tells what else is
    set.
    """

    singles: str | None
    together: str | None
    about: Mapping[str, Any]
    records: Any
    pricing: Any


def record_all(task: str, seeds: Sequence[int]) -> dict[int, list[Recorded]]:
    """Makes all branches of all seeds on all cores, and gives what was recorded by seed."""
    _tasks.prepare(task)  # made once, before many ask for it
    jobs = list(itertools.product([task], BRANCHES, seeds))
    found: dict[int, list[Recorded]] = {seed: [] for seed in seeds}
    for (_, _, seed), recorded in zip(jobs, on_all_cores(record_branch, jobs), strict=True):
        found[seed] += recorded
    return found


def on_all_cores(work: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
    """Does a job a core at a time, each in a process of its own; results in the jobs' order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, jobs))


def record_branch(job: tuple[str, str, int]) -> list[Recorded]:
    """Makes one branch of one seed, unless the same code has made it before."""
    task, branch, seed = job
    kept = _tasks.CACHE / task / f"recorded-{branch}-{seed}-{_code()}.pickle"
    recorded: list[Recorded] = once(kept, lambda: _made(task, branch, seed))
    return recorded


def once(kept: Path, make: Callable[[], Any]) -> Any:
    """Gives what lies in a file, which is made first where it is not there."""
    if not kept.exists():
        found = pickle.dumps(make())
        unfinished = kept.with_suffix(".unfinished")
        unfinished.write_bytes(found)
        unfinished.rename(kept)
    return pickle.loads(kept.read_bytes())


def _code() -> str:
    """Gives a digest of all code that decides what a model becomes and says; jobs do not."""
    import trimtab_strategies
    import trimtab_workers

    every = [path for package in (trimtab_strategies, trimtab_workers) for path in sources(package)]
    files = [path for path in every if path.parent.name not in ("executors", "jobs")]
    return digest_of([*files, Path(__file__), Path(str(_tasks.__file__))])


def sources(package: Any) -> list[Path]:
    """Lists the Python files of a package."""
    return sorted(Path(str(package.__file__)).parent.rglob("*.py"))


def digest_of(files: Sequence[Path]) -> str:
    """Gives a short digest of what files hold."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _made(task: str, branch: str, seed: int) -> list[Recorded]:
    import torch

    torch.set_num_threads(1)
    prepared, started = _tasks.prepare(task), time.monotonic()
    train = prepared.train.select(np.arange(MOST_ROWS.get(task, len(prepared.train))))
    maker = Maker(prepared, replace(prepared, train=train).calibration(seed))
    found = list(BRANCHES[branch](maker))
    print(f"{task}, seed {seed}, {branch}: {time.monotonic() - started:.0f} s", flush=True)
    return found


@dataclass(frozen=True)
class Maker:
    """Applies strategies to the models of one task and seed."""

    prepared: _tasks.Prepared
    calibration: Any

    def apply(self, strategy: str, model: Any, *ladder: float, **wanted: Any) -> list[Any]:
        """Applies one strategy with its default choices, but for SETTINGS and those wanted.

        Weights learn at the rate that the dense model was fine-tuned at, or the highest there is.
        """
        from trimtab_strategies import registry
        from trimtab_strategies.base import completed

        found = registry.get(strategy)
        rate = min(self.prepared.task.learning_rate, MOST_RATE)
        rates = {RATES[strategy]: rate} if strategy in RATES else {}
        choices = completed(found, {**rates, **SETTINGS.get(strategy, {}), **wanted})
        made = found.apply(model, self.calibration, choices, None, ladder, lambda *_: None)
        return [variant.model for variant in made]

    def record(
        self, model: Any, singles: str | None, together: str | None, **about: Any
    ) -> Iterator[Recorded]:
        """Runs a model over the rows to report on, at each scale that a search would try."""
        from trimtab_strategies.outcomes import Pricing
        from trimtab_workers.sweeping import SCALES, record

        rule, pricing = model.token_rule, Pricing.of(model.config.to_dict())
        name, scales = ("", (1.0,)) if rule is None else SCALES[rule.placement]
        for scale in scales:
            model.config.knobs = {name: scale} if name else {}
            records = record(model, self.prepared.report)
            settings = {**about, **model.config.knobs}
            yield Recorded(singles, together, settings, records, pricing)

    @property
    def dense(self) -> Any:
        """The fine-tuned model."""
        return self.prepared.model


def _exits(maker: Maker) -> Iterator[Recorded]:
    (distilled,) = maker.apply("early_exit", maker.dense)
    yield from maker.record(distilled, "dense", "exits", objective="distil")
    (joint,) = maker.apply("early_exit", maker.dense, **JOINT)
    yield from maker.record(joint, None, "exits", **JOINT)


def _tokens(strategy: str, name: str) -> Callable[[Maker], Iterator[Recorded]]:
    def branch(maker: Maker) -> Iterator[Recorded]:
        (pruned,) = maker.apply(strategy, maker.dense)
        (distilled,) = maker.apply("early_exit", pruned)
        yield from maker.record(distilled, name, f"{name} + exits", objective="distil")

    return branch


def _fisher(maker: Maker) -> Iterator[Recorded]:
    """All shares; behind some of them exits of either kind; behind the dearest of those tokens too.

    Joint training gets a model used to its missing tokens, so that what comes before it does not.
    """
    smaller = dict(zip(SHARES, maker.apply("fisher", maker.dense, *SHARES), strict=True))
    for share, model in smaller.items():
        yield from maker.record(model, "Fisher", None, share=share)
    for share in WITH_EXITS:
        (distilled,) = maker.apply("early_exit", smaller[share])
        yield from maker.record(distilled, None, "Fisher + exits", share=share)
    for share in WITH_JOINT_EXITS:
        (joint,) = maker.apply("early_exit", smaller[share], **JOINT)
        yield from maker.record(joint, None, "Fisher + exits", share=share, **JOINT)
    for strategy, name, wanted in (
        ("ltp", "LTP", {"hard_epochs": 0}),
        ("acc", "ACC", {"epochs": 0}),
    ):
        (pruned,) = maker.apply(strategy, smaller[BEFORE_TOKENS], **wanted)
        (joint,) = maker.apply("early_exit", pruned, **JOINT)
        together = f"Fisher + {name} + exits"
        yield from maker.record(joint, None, together, share=BEFORE_TOKENS, **JOINT)


BRANCHES: dict[str, Callable[[Maker], Iterator[Recorded]]] = {
    "Fisher": _fisher,
    "LTP": _tokens("ltp", "LTP"),
    "exits": _exits,
    "ACC": _tokens("acc", "ACC"),
}
"""The longest first, so that no core waits long at the end."""
