"""The elastic model, in one flat folder that is copied beside every checkpoint.

Its modules import only torch, transformers and each other, because that is what transformers can
load from a checkpoint's own folder.
"""

from .configuration_trimtab import TrimtabConfig
from .layers_trimtab import ElasticLayer
from .modeling_trimtab import Gates, TrimtabForSequenceClassification

__all__ = ["ElasticLayer", "Gates", "TrimtabConfig", "TrimtabForSequenceClassification"]
