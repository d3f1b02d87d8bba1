"""Running a study from its spec to its checkpoint: what `trimtab run` and `trimtab.run` do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab._wording import DEFAULT_DB
from trimtab.errors import InputError
from trimtab.study import Study
from trimtab_storage import Store

if TYPE_CHECKING:
    from trimtab.controller import Reporter, RunResult
    from trimtab.spec import Spec


def run(
    spec: Spec,
    *,
    db: str = DEFAULT_DB,
    artifacts: str | None = None,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Study:
    """Runs or continues the study of a spec; blocks until it is done.

    Models lie beside the database, or in the place that ``artifacts`` names, such as
    ``s3://bucket/prefix``; a database stays with the place of its first one.

    Raises:
        TrimtabError: see ``trimtab.errors``; every error is one clear line.
    """
    run_to_result(spec, db=db, artifacts=artifacts, reporter=reporter, stop=stop)
    return Study(spec.name, db)


def run_to_result(
    spec: Spec,
    *,
    db: str = DEFAULT_DB,
    artifacts: str | None = None,
    reporter: Reporter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Runs a study and gives what it ended with, for those who need more than the study."""
    from trimtab.controller import SilentReporter, run_study
    from trimtab_workers.executors import make_executor

    workers = spec.workers
    _check_output(spec)
    with Store.open(db, controller=True, artifacts=artifacts) as store:

        def executor() -> Any:
            return make_executor(
                workers.executor,
                count=workers.count,
                cpus_each=workers.cpus_each,
                gpus_each=workers.gpus_each,
                device=workers.device,
                address=workers.address,
                shared=store.shared_folders,
            )

        return run_study(spec, store, executor, reporter or SilentReporter(), stop)


def _check_output(spec: Spec) -> None:
    """Checks that the checkpoint can be written: hours later would be a bad moment to find out.

    Raises:
        InputError: if the place cannot be written to, or holds something that is not this study's.
    """
    from trimtab.controller._run import CHECKPOINT
    from trimtab.emission import CheckpointError, check_target, read_manifest
    from trimtab.emission._place import partial_folder

    out = Path(spec.output) / CHECKPOINT
    with partial_folder(out):
        check_target(out, force=True)
        owner = spec.name
        # Of what is damaged nobody can tell whose it was.
        with suppress(CheckpointError):
            owner = read_manifest(out)["study"]
    if owner != spec.name:
        raise InputError(
            f"{out} is a checkpoint of another study, {owner!r}, so it is not replaced: "
            "give another output, or move it away"
        )
