"""The controller: one process that holds a study, sends out its work and records what came back."""

from ._limits import budget_ratio, finetune_of, limits_of, task_of
from ._report import Reporter, RunningJob, SilentReporter, Status
from ._run import RunResult, run_study
from ._spending import TimingCost

__all__ = [
    "Reporter",
    "RunResult",
    "RunningJob",
    "SilentReporter",
    "Status",
    "TimingCost",
    "budget_ratio",
    "finetune_of",
    "limits_of",
    "run_study",
    "task_of",
]
