"""The elastic model, in one flat folder that is copied beside every checkpoint.

Its modules import only torch, transformers and each other, because that is what transformers can
load from a checkpoint's own folder.
"""

from .configuration_trimtab import TrimtabConfig
from .layers_trimtab import ElasticLayer
from .masked_trimtab import MaskedTokens, Softness
from .modeling_trimtab import Gates, TrimtabForSequenceClassification
from .tokens_trimtab import ShareRule, ThresholdRule
from .trace_trimtab import Trace

__all__ = [
    "ElasticLayer",
    "Gates",
    "MaskedTokens",
    "ShareRule",
    "Softness",
    "ThresholdRule",
    "Trace",
    "TrimtabConfig",
    "TrimtabForSequenceClassification",
]
