"""Disk space: weights are kept for the frontiers and for what others start from."""

from __future__ import annotations

import time
from collections.abc import Collection

from trimtab_storage import Artifacts, Store


def drop_weights_off_frontiers(
    store: Store,
    files: Artifacts,
    in_use: Collection[str] = (),
    only: Collection[str] | None = None,
) -> set[str]:
    """Removes the weights of models that are on no study's frontier, and gives their keys.

    Their recipes stay. What a model on a frontier was made from is kept as well, and so are those
    ``in_use``, baselines and statistics: every other artifact can be made again from them. ``only``
    names those that may go; None leaves it open.
    """
    dropped = set(store.models_off_frontiers()).difference(in_use)
    if only is not None:
        dropped &= set(only)
    store.drop_files(files, *sorted(dropped))
    return dropped


def others_at_work(store: Store, study_id: int) -> bool:
    """Tells whether another study is being run; what it starts from may be on no frontier yet."""
    return any(
        study.id != study_id
        and study.lease_owner is not None
        and (study.lease_expires or 0.0) > time.time()
        for study in store.studies()
    )
