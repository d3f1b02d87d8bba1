"""Declare a budget and a largest drop; get a smaller, faster Transformer checkpoint.

``run`` a ``Spec``, ``open_study`` a finished or running one; ``load``, ``verify`` and
``export_onnx`` are for checkpoints.
Importing this package is light: what is heavy is imported where it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.emission._load import load as load
    from trimtab.emission._verify import verify as verify
    from trimtab.errors import TrimtabError as TrimtabError
    from trimtab.export import export_onnx as export_onnx
    from trimtab.running import run as run
    from trimtab.spec import Spec as Spec
    from trimtab.study import Study as Study
    from trimtab.study import open_study as open_study

__version__ = "0.1.0"

_HOMES = {
    "Spec": "trimtab.spec",
    "Study": "trimtab.study",
    "TrimtabError": "trimtab.errors",
    "export_onnx": "trimtab.export",
    "load": "trimtab.emission._load",
    "open_study": "trimtab.study",
    "run": "trimtab.running",
    "verify": "trimtab.emission._verify",
}

__all__ = ["Spec", "Study", "TrimtabError", "export_onnx", "load", "open_study", "run", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
