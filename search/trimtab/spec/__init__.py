"""The spec: reading it, checking it, and saying clearly what is wrong with it.

Nothing here imports torch, transformers, datasets, Ray, pandas or SQLAlchemy.
"""

from trimtab.spec._files import check_files
from trimtab.spec._latency import LatencyBudget, LatencyLimit
from trimtab.spec._model import Spec, changed_fields
from trimtab.spec._schema import schema_path
from trimtab.spec._strategies import StrategyEntry
from trimtab.spec.errors import FieldError, SpecError, SpecErrors, UnitError
from trimtab.spec.options import parse_drop_option, parse_flops_option, parse_latency_option
from trimtab.spec.references import locate_model
from trimtab.spec.units import Drop, Duration, Flops, Latency, Throughput

__all__ = [
    "Drop",
    "Duration",
    "FieldError",
    "Flops",
    "Latency",
    "LatencyBudget",
    "LatencyLimit",
    "Spec",
    "SpecError",
    "SpecErrors",
    "StrategyEntry",
    "Throughput",
    "UnitError",
    "changed_fields",
    "check_files",
    "locate_model",
    "parse_drop_option",
    "parse_flops_option",
    "parse_latency_option",
    "schema_path",
]
