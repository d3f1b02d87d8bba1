"""What workers are sent to do: picklable jobs that return plain values.

A job finds its data and models through its ``Workplace``, leaves tensors in artifact files, and
returns what was measured. It never opens the database.
"""

from ._baseline import BaselineJob, BaselineResult
from ._measure import MeasureJob
from ._reference import Reference, ReferenceJob
from ._strategy import LadderJob, RungResult, StatisticsJob, StatisticsResult
from ._survey import Survey, SurveyJob
from ._workplace import Files, Measurement, Stored, Workplace, load_elastic

__all__ = [
    "BaselineJob",
    "BaselineResult",
    "Files",
    "LadderJob",
    "Measurement",
    "MeasureJob",
    "Reference",
    "ReferenceJob",
    "RungResult",
    "StatisticsJob",
    "StatisticsResult",
    "Stored",
    "Survey",
    "SurveyJob",
    "Workplace",
    "load_elastic",
]
