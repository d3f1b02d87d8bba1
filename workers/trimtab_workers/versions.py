"""The versions that a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("trimtab", "torch", "transformers", "datasets", "optuna", "ray", "sqlalchemy")


def versions() -> dict[str, str]:
    """Gives the version of Python and of each package that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
