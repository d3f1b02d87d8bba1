"""Artifacts: how they are named, what their rows say, and how they come back to disk."""

from ._forge import Forge
from ._keys import baseline_key, model_key, statistics_key
from ._rows import is_on_disk, measurement_name, new_artifact, stored_measurement, with_measurement

__all__ = [
    "Forge",
    "baseline_key",
    "is_on_disk",
    "measurement_name",
    "model_key",
    "new_artifact",
    "statistics_key",
    "stored_measurement",
    "with_measurement",
]
