"""Artifacts on demand: found on disk, or made again from their recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from trimtab.errors import InputError, TrimtabError
from trimtab.forge._keys import model_key, statistics_key
from trimtab.forge._rows import is_on_disk, measurement_name, new_artifact, stored_measurement
from trimtab_storage import ArtifactRow, Artifacts, Lease, Store
from trimtab_strategies import registry
from trimtab_strategies.recipe import Step, from_plain
from trimtab_workers.executors import Job
from trimtab_workers.jobs import (
    LadderJob,
    Measurement,
    Place,
    RungResult,
    StatisticsJob,
    StatisticsResult,
)

FLOPS_SLACK = 1e-3
RunJob = Callable[[Job, str], Any]


class Forge:
    """Brings artifacts back to disk: finds their files, or makes them again from their recipes."""

    def __init__(
        self,
        store: Store,
        place: Place,
        data_fingerprint: str,
        run: RunJob,
        lease: Lease | None = None,
    ) -> None:
        self.place, self.run = place, run
        # Workers ask less of them; with the same owner one sweep takes what either leaves.
        self._store, self._files = store, cast(Artifacts, place.files)
        self._data_fingerprint, self._lease = data_fingerprint, lease

    def ensure(self, key: str) -> ArtifactRow:
        """Gives the row of an artifact whose files are there, sound, and just as recorded.

        Raises:
            InputError: if the baseline's files are gone, from which all others are made, or those
                of a model that this version of its strategy would make otherwise.
            TrimtabError: if what was made again is not what was measured.
        """
        row = self._store.artifact(key)
        if row is None:
            raise InputError(f"the database knows no artifact {key}; run the study again")
        if is_on_disk(row, self._files):
            return row
        if row.parent_key is None or row.strategy is None:
            raise InputError(
                f"the files of the baseline (artifact {key}) are gone or damaged; "
                "run the study again to make them anew"
            )
        return self._rebuild(row, row.parent_key, row.strategy)

    def _rebuild(self, row: ArtifactRow, parent_key: str, strategy: str) -> ArtifactRow:
        (step,) = from_plain(row.recipe)[-1:]
        choices = step.choices_dict
        if model_key(parent_key, self._data_fingerprint, strategy, choices) != row.key:
            raise InputError(
                f"the files of artifact {row.key[:12]} are gone, and it was made by another "
                f"version of {strategy} or of the data: run the spec again under another name"
            )
        self._store.drop_files(self._files, row.key)
        self.ensure(parent_key)
        rung = float(choices.pop("constraint", 1.0))
        recipe_step = Step.of(strategy, choices)
        statistics = self._ensure_statistics(parent_key, recipe_step)
        job = LadderJob(
            self.place, parent_key, statistics, strategy, recipe_step.choices, ((rung, row.key),)
        )
        (made,) = self.run(job, f"making {strategy} at {rung:.0%} again")
        self._check_same(row, made.measurement)
        return self._keep(row, made)

    def _check_same(self, row: ArtifactRow, now: Measurement) -> None:
        """Refuses a model that is not what was measured under its name, and removes its files."""
        name = measurement_name(self.place.task.metric, self._data_fingerprint, "search")
        known = stored_measurement(row, name)
        changed = [] if known is None else _differences(known, now)
        if changed:
            self._files.remove(row.key)
            raise TrimtabError(
                f"artifact {row.key[:12]} was made again from its recipe, but is not the model "
                f"that was measured ({', '.join(changed)}): emit where the study ran, or run it "
                "again under another name"
            )

    def _ensure_statistics(self, parent_key: str, step: Step) -> str | None:
        strategy = registry.get(step.strategy)
        if not strategy.statistics_choices:
            return None
        key = statistics_key(parent_key, self._data_fingerprint, step)
        row = self._store.artifact(key)
        if row is not None and is_on_disk(row, self._files):
            return key
        job = StatisticsJob(self.place, parent_key, key, step.strategy, step.choices)
        made: StatisticsResult = self.run(job, f"{step.strategy} statistics")
        self._store.record_artifact(
            self._lease,
            new_artifact(
                key,
                "statistics",
                parent_key,
                [],
                step.strategy,
                made.stored,
                None,
                "",
                made.seconds,
            ),
        )
        return key

    def _keep(self, row: ArtifactRow, made: RungResult) -> ArtifactRow:
        return self._store.record_artifact(
            self._lease,
            new_artifact(
                row.key,
                row.kind,
                row.parent_key,
                row.recipe,
                row.strategy,
                made.stored,
                made.measurement,
                "",
                row.seconds,
            ),
        )


def _differences(known: Measurement, now: Measurement) -> list[str]:
    """Tells what a rebuilt model has otherwise; one sample more or less may be told right.

    Costs that depend on the rows may differ as well, by a token more or less here and there.
    """
    slack = {"flops": FLOPS_SLACK * known.flops if known.settings else 0.0}
    changed = [
        f"{name} {getattr(known, name):,.0f} then, {getattr(now, name):,.0f} now"
        for name in ("flops", "params", "n")
        if abs(getattr(known, name) - getattr(now, name)) > slack.get(name, 0.0)
    ]
    # Also false for nan. A little more than a sample, as fractions are not exact.
    if not abs(known.metric - now.metric) * known.n <= 1 + 1e-6:
        changed.append(f"metric {known.metric:.4f} then, {now.metric:.4f} now")
    return changed
