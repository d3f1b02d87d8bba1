"""Disk space: weights are kept for the frontiers and for what others start from."""

from __future__ import annotations

from trimtab_storage import ArtifactFiles, Store


def drop_weights_off_frontiers(store: Store, files: ArtifactFiles) -> None:
    """Removes the weights of models that are on no study's frontier; their recipes stay.

    Baselines and statistics stay: every other artifact can be made again from them.
    """
    wanted = {
        point.artifact_key
        for study in store.studies()
        for cost in ("flops", "latency")
        for point in store.frontier(study.id, cost)
    }
    for row in store.kept_artifacts():
        if row.kind == "model" and row.key not in wanted:
            # The row goes first: a row with a path must always have its files.
            store.forget_file(row.key)
            files.remove(row.key)
