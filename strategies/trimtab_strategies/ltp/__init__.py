"""Learned token pruning: drops the tokens whose mean attention is below a layer's threshold.

After Kim et al., "Learned Token Pruning for Transformers" (KDD 2022).
"""

from ._strategy import LtpStrategy

__all__ = ["LtpStrategy"]
