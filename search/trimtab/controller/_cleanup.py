"""Disk space: weights are kept for the frontiers and for what others start from."""

from __future__ import annotations

from trimtab_storage import ArtifactFiles, Store


def drop_weights_off_frontiers(store: Store, files: ArtifactFiles) -> None:
    """Removes the weights of models that are on no study's frontier; their recipes stay.

    Baselines and statistics stay: every other artifact can be made again from them.
    """
    # Read first: what another study records from here on is not ours to judge.
    kept = store.kept_artifacts()
    wanted = {
        point.artifact_key
        for study in store.studies()
        for cost in ("flops", "latency")
        for point in store.frontier(study.id, cost)
    }
    for row in kept:
        if row.kind == "model" and row.key not in wanted:
            store.drop_files(files, row.key)
