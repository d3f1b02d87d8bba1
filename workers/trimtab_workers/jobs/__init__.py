"""What workers are sent to do: picklable jobs that return plain values.

A job finds its data and models through its ``Place``, leaves tensors in artifact files, and
returns what was measured. It never opens the database.
"""

from ._baseline import BaselineJob, BaselineResult
from ._bench import BenchJob, BenchResult, Candidate
from ._delivered import DeliveredJob
from ._latency_table import TableJob
from ._measure import MeasureJob
from ._place import Files, Look, Measurement, Place, Stored, load_elastic
from ._reference import Reference, ReferenceJob
from ._strategy import LadderJob, RungResult, StatisticsJob, StatisticsResult
from ._survey import Survey, SurveyJob

__all__ = [
    "BaselineJob",
    "BaselineResult",
    "BenchJob",
    "BenchResult",
    "Candidate",
    "DeliveredJob",
    "Files",
    "LadderJob",
    "Look",
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
    "TableJob",
    "Place",
    "load_elastic",
]
