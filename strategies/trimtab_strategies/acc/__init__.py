"""Attention context contribution: keeps a fixed share of the tokens after each layer's attention.

After [002], which calls its models latency-adjustable: one scale, set at inference, moves them all.
"""

from ._strategy import AccStrategy

__all__ = ["AccStrategy"]
