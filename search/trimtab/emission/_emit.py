"""Writing a checkpoint: beside its place, verified in a fresh process, renamed last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from trimtab.emission._certify import Certificate
from trimtab.emission._folder import (
    describe_checkpoint,
    verify_in_fresh_process,
    write_checkpoint,
)
from trimtab.emission._latency import LatencyCheck
from trimtab.emission._place import check_target, partial_folder, put_in_place
from trimtab.forge import Forge
from trimtab.frontier import non_dominated
from trimtab.selection import Choice, Limits, is_feasible
from trimtab_storage import PointRow, Store, StudyRow
from trimtab_workers.jobs import Reference, ReferenceJob
from trimtab_workers.versions import versions

POINT_FACTS = ("id", "metric", "drop", "flops", "flops_ratio", "params", "n", "split", "latency")


@dataclass(frozen=True)
class Emission:
    """A checkpoint that was written, and how its point did on rows that nothing was chosen on.

    ``latency`` is what it took in a fresh process, None where that was not asked for; ``choice`` is
    what it was chosen as, feasible or not as that time has it.
    """

    path: Path
    point: PointRow
    certificate: Certificate
    choice: Choice[PointRow] | None = None
    latency: dict[str, Any] | None = None

    def __repr__(self) -> str:
        from trimtab.notebook import emission_line

        return emission_line(self)

    def _repr_html_(self) -> str:
        from trimtab.notebook import emission_html

        return emission_html(self)


def emit_checkpoint(
    store: Store,
    study_name: str,
    choice: Choice[PointRow],
    forge: Forge,
    out: Path,
    *,
    limits: Limits,
    force: bool = False,
    check: LatencyCheck | None = None,
    insist: bool = False,
) -> Emission:
    """Writes the checkpoint of a chosen point to ``out`` in one piece.

    The point is measured on the certify rows, once; it is never chosen again from there. With a
    ``check`` what was written is timed in a fresh process.

    Raises:
        InputError: if ``out`` exists and may not be replaced, or cannot be written to.
        LatencyMissedError: if it takes longer than the check allows, where one is to ``insist``;
            nothing was put in place then.
        TrimtabError: if what was written does not load or does not give the same logits.
    """
    # Where a link leads, so that the rename happens there, and "." has a name.
    target = out.resolve()
    check_target(target, force)
    study = store.study(study_name)
    assert study is not None and study.baseline is not None, "a study with points has a baseline"
    point, baseline_key = choice.point, study.baseline["artifact"]
    with partial_folder(target) as partial:
        forge.ensure(baseline_key)
        undone = forge.ensure(point.artifact_key).meta.get("undone", [])
        certificate = Certificate.measure(store, study, point, forge, limits.max_drop)
        job = ReferenceJob(forge.place, point.artifact_key, point.knobs)
        reference = forge.run(job, "storing logits")
        facts = {**_facts(study, choice, certificate, reference), "undone": undone}
        dial = _dial(store, study, point)
        write_checkpoint(partial, forge.place, baseline_key, point, dial, facts)
        latency = None
        if check is not None:
            latency, samples = check.measure(forge, partial, baseline_key)
            event = {"point": point.id, "what": "checkpoint", "samples_ms": samples}
            store.log_event(study.id, "latency", event)
            if insist:
                check.insist(latency)
            choice = check.judged(choice, latency, limits)
            facts |= {"delivered_latency": latency, **_verdict(facts, study, choice, limits)}
            describe_checkpoint(partial, facts)
        verify_in_fresh_process(partial)
        certificate.record(store, study.id)
        check_target(target, force)
        put_in_place(partial, target)
    return Emission(out, point, certificate, choice, latency)


def _verdict(
    facts: dict[str, Any], study: StudyRow, choice: Choice[PointRow], limits: Limits
) -> dict[str, Any]:
    """Gives what the manifest says of the limits, now that the checkpoint was timed.

    That it keeps to other limits on its time than the spec's tells nothing of those.
    """
    meets_spec = facts["meets_spec"] and (choice.feasible or not facts["feasible"])
    spec = Limits(**study.limits)
    if choice.feasible and not facts["feasible"] and limits.latencies_ms == spec.latencies_ms:
        meets_spec = is_feasible(choice.point, spec.without_latency())
    relaxations = list(choice.relaxations)
    return {"feasible": choice.feasible, "meets_spec": meets_spec, "relaxations": relaxations}


def _dial(store: Store, study: StudyRow, point: PointRow) -> list[PointRow]:
    """Gives the settings of this artifact's knobs that no other beats, from cheap to dear.

    The chosen one is among them, even where a query for other limits has chosen one that is beaten;
    and so is what was timed, as there is no dial of latencies without it.
    """
    same = [p for p in store.points(study.id, "search") if p.artifact_key == point.artifact_key]
    flags = non_dominated([p.drop for p in same], [p.flops for p in same])
    unbeaten = {p.id for p, stays in zip(same, flags, strict=True) if stays} | {point.id}
    kept = [p for p in same if p.id in unbeaten or (p.latency or {}).get("value") is not None]
    return sorted(kept, key=lambda p: (p.flops, p.drop))


def _facts(
    study: StudyRow,
    choice: Choice[PointRow],
    certificate: Certificate,
    reference: Reference,
) -> dict[str, Any]:
    """Gathers everything that the manifest and the card say."""
    point, spec = choice.point, study.spec
    return {
        "study": study.name,
        "spec_sha256": hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest(),
        "model": _shown(spec["model"]),
        "seed": spec["search"]["seed"],
        "task": {name: spec["task"][name] for name in ("text", "label", "metric", "max_length")},
        "budget": spec["budget"],
        "max_drop": spec["max_drop"],
        "recipe": point.recipe,
        "knobs": point.knobs,
        "point": {name: getattr(point, name) for name in POINT_FACTS},
        "feasible": choice.feasible,
        "meets_spec": is_feasible(point, Limits(**study.limits)),
        "relaxations": list(choice.relaxations),
        "baseline": study.baseline,
        "certified": certificate.holds,
        "certificate": certificate.facts(),
        "reference": {"input_ids": reference.input_ids, "logits": reference.logits},
        "workload": {str(length): count for length, count in reference.lengths.items()},
        "versions": versions(),
    }


def _shown(model: str) -> str:
    """Names a model for strangers: of a local folder they need not know where it lies."""
    path = PurePath(model)
    return path.name if path.is_absolute() else model
