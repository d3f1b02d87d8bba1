"""What a database holds already of the work that a spec asks for."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.controller import finetune_of, limits_of, task_of
from trimtab.controller._prospect import Prospect, prospect_alone, prospect_of, subject_of
from trimtab.controller._warm_start import Subject, is_same
from trimtab.errors import InputError
from trimtab.forge import baseline_key
from trimtab.spec import Spec
from trimtab_storage import Reader, StorageError
from trimtab_workers.jobs import Survey


@dataclass(frozen=True)
class Reuse:
    """What need not be done again; ``taken_over`` says what other studies know, if anything.

    ``seconds_per_trial`` is the mean of the study's own trials that made something; None without.
    """

    has_baseline: bool = False
    terminal_trials: int = 0
    elapsed_s: float = 0.0
    seconds_per_trial: float | None = None
    taken_over: str | None = None

    def facts(self, wanted: int) -> dict[str, str]:
        """Gives names and short texts for a plan of so many trials."""
        parts = ["the baseline"] if self.has_baseline else []
        parts += [f"{self.terminal_trials} trials"] if self.terminal_trials else []
        found = {"reused": ", ".join(parts) or "nothing yet"}
        if self.taken_over and self.terminal_trials < wanted:
            found["would take over"] = self.taken_over
        return found


def look_up(spec: Spec, survey: Survey, db: str, budget: float | None) -> tuple[Reuse, Prospect]:
    """Reads what is there, and works out what the study would have before it.

    Args:
        spec: the study's.
        survey: what was found in its model and data.
        db: the database's URL; there may be none yet.
        budget: the budget on FLOPs as a share of the baseline's, if there is one.

    Raises:
        InputError: if the database cannot be read.
    """
    try:
        reader = Reader.open_reader(db)
    except StorageError as error:
        if "no database" in str(error):
            return Reuse(), prospect_alone(spec, survey, budget)
        raise InputError(str(error)) from error
    with reader:
        key = baseline_key(survey, task_of(spec), finetune_of(spec))
        metric = _baseline_metric(reader, subject_of(spec, survey, key))
        limits = limits_of(spec, metric)
        prospect = prospect_of(spec, survey, key, limits, budget, reader)
        return _reuse(reader, spec.name, key, prospect.taken_over), prospect


def _reuse(reader: Reader, name: str, key: str, taken_over: str | None) -> Reuse:
    row, study = reader.artifact(key), reader.study(name)
    trials = [] if study is None else reader.trials(study.id)
    # What only repeats others' work takes no time, and says nothing of what is to come.
    seconds = [
        trial.seconds
        for trial in trials
        if trial.seconds and trial.state == "complete" and (trial.result or {}).get("made")
    ]
    return Reuse(
        has_baseline=row is not None and row.path is not None,
        terminal_trials=sum(trial.state in ("complete", "failed") for trial in trials),
        elapsed_s=0.0 if study is None else study.elapsed_s,
        seconds_per_trial=sum(seconds) / len(seconds) if seconds else None,
        taken_over=taken_over,
    )


def _baseline_metric(reader: Reader, subject: Subject) -> float:
    """Finds what the baseline scores, which a relative limit on the drop depends on."""
    for study in reader.studies():
        if study.baseline and is_same(study, subject):
            return float(study.baseline["metric"])
    # Where no study knows it, there are no results that such a limit would judge.
    return 1.0
