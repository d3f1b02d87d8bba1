"""Disk space: weights are kept for the frontiers and for what others start from."""

from __future__ import annotations

from collections.abc import Collection

from trimtab_storage import ArtifactFiles, Store


def drop_weights_off_frontiers(
    store: Store, files: ArtifactFiles, in_use: Collection[str] = ()
) -> set[str]:
    """Removes the weights of models that are on no study's frontier, and gives their keys.

    Their recipes stay. What a model on a frontier was made from is kept as well, and so are those
    ``in_use``, baselines and statistics: every other artifact can be made again from them.
    """
    dropped = set(store.models_off_frontiers()).difference(in_use)
    store.drop_files(files, *sorted(dropped))
    return dropped
