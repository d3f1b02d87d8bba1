"""Early exits: classifiers behind lower layers, at which samples that are easy leave.

After FastBERT (exits distilled from the final classifier, the backbone frozen), Magic Pyramid (with
token pruning active beneath them) and PABEE (patience; backbone and exits trained together).
"""

from ._strategy import EarlyExitStrategy

__all__ = ["EarlyExitStrategy"]
