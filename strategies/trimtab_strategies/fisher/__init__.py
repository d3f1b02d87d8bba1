"""Retraining-free pruning of heads and filters by Fisher information.

After Kwon et al., "A Fast Post-Training Pruning Framework for Transformers" (NeurIPS 2022): mask
search, rearrangement, mask tuning; then, what the paper leaves out, physical removal.
"""

from ._strategy import FisherStrategy

__all__ = ["FisherStrategy"]
