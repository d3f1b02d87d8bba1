"""The plan: what a run would do, can reach and needs, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trimtab._latency_words import bound_text, texts_text, workload_text
from trimtab._plan_prices import disk_bytes, finetune_passes, flops_per_second, trial_passes
from trimtab._reuse import Reuse, look_up
from trimtab.controller import budget_ratio, limits_of, task_of
from trimtab.controller._ladder import ladder
from trimtab.controller._limits import latencies_of
from trimtab.controller._ranking import KEEP, rows_of
from trimtab.controller._reach import Combination
from trimtab.controller._trials import GRACE_S
from trimtab.spec import Flops, LatencyBudget, Spec
from trimtab_storage import ArtifactFiles
from trimtab_strategies import registry
from trimtab_strategies.base import CostRange
from trimtab_strategies.cost import mean_flops
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import Place, Survey, SurveyJob
from trimtab_workers.latency.workload import Workload

_OF = "the baseline's FLOPs"
_TIMED_FIRST = f"shares of {_OF} that the budget is expected to allow, once requests were timed"


@dataclass(frozen=True)
class Plan:
    """What would run."""

    study: str
    baseline_flops: float
    mean_tokens: float
    rows: Mapping[str, int]
    is_finetuned_first: bool
    budget_ratio: float | None
    ladder: tuple[float, ...]
    reach: Mapping[str, CostRange]
    left_out: str | None
    trials_wanted: int
    stop: str | None
    looks: str | None
    finetune_seconds: float
    seconds_per_trial: float
    trials_that_fit: int
    disk_bytes: int
    reuse: Reuse
    warnings: tuple[str, ...]
    latency: Mapping[str, Any] | None = None
    """What is limited and timed, with ``words`` for it; None without a budget on latency."""

    def to_plain(self) -> dict[str, Any]:
        """Gives the plan as JSON-able values."""
        plain = asdict(self)
        plain["reach"] = {
            name: {
                **asdict(span),
                "low_ratio": span.low_flops / self.baseline_flops,
                "high_ratio": span.high_flops / self.baseline_flops,
            }
            for name, span in self.reach.items()
        }
        return plain

    def facts(self) -> dict[str, str]:
        """Gives the plan as names and short texts."""
        rows = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        rungs = ", ".join(f"{100 * rung:.3g}%" for rung in self.ladder)
        spans = {
            f"{name} reaches": f"{span.low_flops / self.baseline_flops:.0%} to "
            f"{span.high_flops / self.baseline_flops:.0%} of the baseline's FLOPs"
            for name, span in self.reach.items()
        }
        first = "fine-tuned first" if self.is_finetuned_first else "as it is"
        tuned = f"about {self.finetune_seconds:.0f} s (a rough estimate)"
        return {
            "study": self.study,
            "rows": rows,
            "baseline": f"{_shown(self.baseline_flops)} per sample at "
            f"{self.mean_tokens:.1f} tokens on average; {first}",
            **({"fine-tuning": tuned} if self.finetune_seconds else {}),
            **spans,
            **({"left out": self.left_out} if self.left_out else {}),
            **self._latency_facts(),
            "each recipe is made at": _TIMED_FIRST if self.latency else f"{rungs} of {_OF}",
            "trials": f"{self.trials_wanted} wanted; about {self.trials_that_fit} fit the time "
            f"left, at {self.seconds_per_trial:.0f} s each (a rough estimate)",
            **({"looks": self.looks} if self.looks else {}),
            **({"stops early": self.stop} if self.stop else {}),
            "disk": f"about {self.disk_bytes / 1e6:,.0f} MB",
            **self.reuse.facts(self.trials_wanted),
        }

    def _latency_facts(self) -> dict[str, str]:
        if self.latency is None:
            return {}
        return {
            "latency": self.latency["words"],
            "timed first": "the baseline and parts of it, when `run` starts",
        }

    def __repr__(self) -> str:
        from trimtab.notebook import plan_line

        return plan_line(self)

    def _repr_html_(self) -> str:
        from trimtab.notebook import plan_html

        return plan_html(self)


def make_plan(spec: Spec, db: str) -> Plan:
    """Surveys the model and the data, and works out what a run would do.

    Reads the database if there is one, and writes nothing.

    Raises:
        InputError: if the data or the model cannot be worked with.
    """
    place = Place(task_of(spec), spec.model, ArtifactFiles(Path(), "plan"))
    survey = SurveyJob(place).run(WorkerContext("cpu", lambda stage, done, total: None))
    flops = mean_flops(survey.shape, survey.histogram)
    # The baseline's metric is not known yet, and the budget on FLOPs does not depend on it.
    ratio = budget_ratio(limits_of(spec, 1.0), flops)
    reuse, prospect = look_up(spec, survey, db, ratio)
    names = [entry.name for entry in spec.search.strategies]
    reach = {name: registry.get(name).reach(survey.shape, survey.histogram) for name in names}
    samples_per_s = flops_per_second(survey) / flops
    seconds = reuse.seconds_per_trial or trial_passes(spec, survey, ladder(ratio)) / samples_per_s
    tuning_s = 0.0 if reuse.has_baseline else finetune_passes(spec, survey) / samples_per_s
    left_s = max(0.0, spec.search.time.seconds - reuse.elapsed_s - tuning_s)
    fits = int(spec.workers.count * left_s / max(seconds, 1e-3))
    return Plan(
        study=spec.name,
        baseline_flops=flops,
        mean_tokens=survey.histogram.mean,
        rows={
            "to train on": survey.n_train,
            "to decide on": survey.n_search,
            "to certify": survey.n_certify,
            **({"without labels": survey.n_unlabeled} if survey.n_unlabeled else {}),
        },
        is_finetuned_first=not survey.has_head,
        budget_ratio=ratio,
        ladder=ladder(ratio),
        reach=reach,
        left_out=prospect.left_out,
        trials_wanted=spec.search.trials,
        stop=_stop(spec),
        looks=_looks(spec, survey),
        finetune_seconds=tuning_s,
        seconds_per_trial=seconds,
        trials_that_fit=fits,
        disk_bytes=disk_bytes(survey),
        reuse=reuse,
        warnings=tuple(
            [
                *_warnings(spec, survey, ratio, prospect.least, reuse.terminal_trials + fits),
                *_without_end(spec, seconds),
            ]
        ),
        latency=_latency(spec),
    )


def _warnings(
    spec: Spec,
    survey: Survey,
    ratio: float | None,
    least: Mapping[Combination, float],
    done_by_then: int,
) -> list[str]:
    found = []
    lowest = min(least.values())
    if ratio is not None and ratio < lowest:
        found.append(
            f"the budget is {ratio:.1%} of the baseline's FLOPs, but no recipe goes below "
            f"{lowest:.1%}: the run would end with exit code 3"
        )
    if ratio is not None and ratio >= 1 and spec.budget.latency is None:
        dense = _shown(mean_flops(survey.shape, survey.histogram))
        found.append(
            f"the baseline meets this budget as it is ({dense} per sample): lower it to have "
            "anything compressed"
        )
    if survey.n_truncated:
        found.append(
            f"{survey.n_truncated:,} of {survey.n_rows:,} rows are longer than "
            f"{survey.longest_allowed} tokens and would be cut there"
        )
    if done_by_then < spec.search.trials:
        found.append(
            f"only about {done_by_then} of {spec.search.trials} trials fit {spec.search.time}: "
            "give more time or workers, or fewer trials"
        )
    return found


def _without_end(spec: Spec, seconds_per_trial: float) -> list[str]:
    """Warns of trials that nobody can end."""
    has_limit = "trial_timeout" in spec.workers.model_fields_set
    if spec.workers.executor != "inline" or not (has_limit or seconds_per_trial > GRACE_S):
        return []
    return [
        "`executor: inline` cannot end a trial: `trial_timeout` does nothing, and the step that "
        f"runs when {spec.search.time} are over goes on to its end, which may take as long as a "
        f"trial, about {max(1, round(seconds_per_trial))} s; `executor: ray` can"
    ]


def _latency(spec: Spec) -> dict[str, Any] | None:
    """Gives what is limited and timed for a budget on latency."""
    limits, wanted = spec.budget.latency_limits, latencies_of(spec)
    if not limits:
        return None
    workloads = {limit.budget: asked.workload for limit, asked in zip(limits, wanted, strict=True)}
    told = [_timed_words(budget, workload) for budget, workload in workloads.items()]
    first, *others = (
        {"statistic": asked.statistic, "limit": str(limit.bound), **_timed_facts(asked.workload)}
        for limit, asked in zip(limits, wanted, strict=True)
    )
    more = {"others": others} if others else {}
    return {"words": "; and ".join(told), **first, **more}


def _timed_words(budget: LatencyBudget, workload: Workload) -> str:
    plain = workload.to_plain()
    told = f"{bound_text(budget.model_dump(mode='json'))} {workload_text(plain)}"
    return f"{told}; {texts_text(plain)}"


def _timed_facts(workload: Workload) -> dict[str, Any]:
    return {name: value for name, value in workload.to_plain().items() if name != "seed"}


def _stop(spec: Spec) -> str | None:
    """Says in words when ``search.stop`` ends the search; None where it never does."""
    stop = spec.search.stop
    if stop is None:
        return None
    last = "the last trial adds" if stop.patience == 1 else f"the last {stop.patience} trials add"
    return f"once {last} less than {stop.gain} to the hypervolume; recommended recipes anyway"


def _looks(spec: Spec, survey: Survey) -> str | None:
    """Says in words what ``search.looks`` makes of trials that train."""
    if not spec.search.looks:
        return None
    seen = [
        f"{share} of the training rows ({rows_of(share.ratio, survey.n_search):,} decide)"
        for share in spec.search.looks
    ]
    return f"what trains gets {', then '.join(seen)}; the best {KEEP:.0%} go on each time"


def _shown(flops: float) -> str:
    return str(Flops(absolute=float(f"{flops:.3g}")))
