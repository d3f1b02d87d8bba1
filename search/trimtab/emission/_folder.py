"""The folder of a checkpoint: what goes into it, and that it verifies in a fresh process."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trimtab.emission._card import model_card
from trimtab.emission._manifest import write_manifest
from trimtab.errors import TrimtabError
from trimtab_storage import PointRow
from trimtab_storage.artifacts import OWNER_FILE
from trimtab_strategies.records import is_records_file
from trimtab_workers.jobs import Place

WEIGHTS, CONFIG = "model.safetensors", "config.json"
AUTO_MAP = {
    "AutoConfig": "configuration_trimtab.TrimtabConfig",
    "AutoModelForSequenceClassification": "modeling_trimtab.TrimtabForSequenceClassification",
}
DIAL_COLUMNS = ("knobs", "metric", "drop", "flops", "flops_ratio", "params", "latency_ms")


def write_checkpoint(
    folder: Path,
    place: Place,
    baseline_key: str,
    point: PointRow,
    dial: Sequence[PointRow],
    facts: dict[str, Any],
) -> None:
    """Fills a checkpoint's folder; the manifest comes last, over everything else.

    ``dial`` are the settings that the checkpoint can be set to; it is set to ``point``.
    """
    source, dense = place.files.path(point.artifact_key), place.files.path(baseline_key)
    shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
    settings = [_setting(row) for row in dial]
    config = json.loads((source / CONFIG).read_text())
    config |= {"auto_map": AUTO_MAP, "knobs": point.knobs, "operating_points": settings}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in sorted(dense.iterdir()):
        # Records say how long rows are, and of what class: nobody gets that with a checkpoint.
        if file.name not in (WEIGHTS, CONFIG, OWNER_FILE) and not is_records_file(file.name):
            shutil.copyfile(file, folder / file.name)
    for file in modelling_code():
        shutil.copyfile(file, folder / file.name)
    with (folder / "frontier.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(DIAL_COLUMNS)
        for row in settings:
            writer.writerow({**row, "knobs": json.dumps(row["knobs"])}.values())
    describe_checkpoint(folder, facts)


def _setting(row: PointRow) -> dict[str, Any]:
    """Gives a point of the dial; its latency is the upper end of its interval, if it was timed."""
    known = {name: getattr(row, name) for name in DIAL_COLUMNS if name != "latency_ms"}
    latency = row.latency or {}
    is_stable = latency.get("verdict") == "stable"
    return {**known, "latency_ms": latency.get("high") if is_stable else None}


def describe_checkpoint(folder: Path, facts: dict[str, Any]) -> None:
    """Writes the card, and the manifest over everything else, of what lies in a folder."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / "README.md").write_text(model_card(facts, config), encoding="utf-8")
    write_manifest(folder, {**facts, "tensors": _tensor_shapes(folder / WEIGHTS)})


def modelling_code() -> list[Path]:
    """Lists the files that let a checkpoint load where trimtab is not installed."""
    import trimtab_strategies.elastic as elastic

    folder = Path(elastic.__file__).parent
    return sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")


def _tensor_shapes(weights: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as stream:
        return {name: list(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118


def verify_in_fresh_process(folder: Path) -> None:
    """Runs ``trimtab verify`` on a folder, as its later user would.

    Raises:
        TrimtabError: with what the other process said.
    """
    # -P: a file of the user's in the working directory must not pass for a module.
    command = [sys.executable, "-P", "-m", "trimtab", "verify", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise TrimtabError(
            "the checkpoint was written but did not verify in a fresh process, so it was removed: "
            + (said or f"exit code {done.returncode}")
        )
