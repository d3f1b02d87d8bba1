"""Commands that only look answer at once: nothing heavy is imported for them."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

HEAVY = {
    *("torch", "transformers", "ray", "pandas", "datasets", "optuna", "sklearn", "scipy"),
    *("matplotlib", "plotly", "tokenizers", "safetensors", "numpy"),
}
SECONDS, YARDSTICK = 0.5, 0.2
IMPORTED = """
import atexit, sys

def tell():
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)

atexit.register(tell)
from trimtab.__main__ import main
sys.argv[0] = "trimtab"
main()
"""


@pytest.fixture
def light(searching: str, workspace: Any) -> dict[str, list[str]]:
    """The commands that must be light, on a study that is under way."""
    return {
        "help": ["--help"],
        "validate": ["validate", str(workspace.spec)],
        "status": ["status", "--db", searching],
        "trials": ["trials", "--db", searching],
        "frontier": ["frontier", "--db", searching, "--max-flops", "40%"],
    }


@pytest.mark.parametrize("name", ["help", "validate", "status", "trials", "frontier"])
def test_nothing_heavy_is_imported(
    name: str, light: dict[str, list[str]], python: Callable[..., Any]
) -> None:
    ran = python(IMPORTED, *light[name])
    assert ran.code == 0
    assert ran.out
    imported = set(ran.err.split())
    assert "trimtab" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("name", ["help", "validate", "status"])
def test_it_takes_half_a_second_at_most(name: str, light: dict[str, list[str]]) -> None:
    """In CPU time, and at its best: a busy machine is not the command's fault.

    Nor is a slow one: where the largest library alone takes more than a fifth of a second, the
    bound moves with it.
    """
    turns = [(_trimtab(light[name]), cpu_seconds("-c", "import sqlalchemy")) for _ in range(7)]
    taken, yardstick = (min(times) for times in zip(*turns, strict=True))
    print(f"{name}: {taken:.2f} s; the library alone {yardstick:.2f} s")
    assert taken <= max(SECONDS, SECONDS * yardstick / YARDSTICK)


def _trimtab(arguments: list[str]) -> float:
    return cpu_seconds("-m", "trimtab", *arguments)


def cpu_seconds(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
