"""Importing this module makes transformers' Auto classes know the elastic model."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForSequenceClassification

from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

AutoConfig.register(TrimtabConfig.model_type, TrimtabConfig, exist_ok=True)
AutoModelForSequenceClassification.register(
    TrimtabConfig, TrimtabForSequenceClassification, exist_ok=True
)

__all__ = ["TrimtabConfig", "TrimtabForSequenceClassification"]
