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
    # Read first: what another study records from here on is not ours to judge.
    kept = store.kept_artifacts()
    wanted = {
        point.artifact_key
        for study in store.studies()
        for cost in ("flops", "latency")
        for point in store.frontier(study.id, cost)
    }
    parents = {row.parent_key for row in kept if row.key in wanted}
    wanted |= {key for key in parents if key is not None} | set(in_use)
    dropped = {row.key for row in kept if row.kind == "model" and row.key not in wanted}
    for key in dropped:
        store.drop_files(files, key)
    return dropped
