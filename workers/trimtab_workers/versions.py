"""The versions that a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("trimtab", "torch", "transformers", "datasets", "optuna", "ray", "sqlalchemy")


def versions() -> dict[str, str]:
    """Gives the version of Python and of each package that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


FLOORS = {"torch": "2.10", "transformers": "5.3", "ray": "2.54", "safetensors": "0.6"}
"""Older versions have known security faults: they may run code that comes with weights."""


def too_old() -> list[str]:
    """Lists the installed packages that are older than is safe, with what is needed."""
    from packaging.version import Version

    installed = {name: version(name) for name in FLOORS}
    return [
        f"{name} {installed[name]} (at least {floor} is needed)"
        for name, floor in FLOORS.items()
        if Version(installed[name]) < Version(floor)
    ]
