from __future__ import annotations

import subprocess
import sys

import pytest

import trimtab_storage


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_every_public_name_is_there() -> None:
    assert trimtab_storage.__all__ == sorted(trimtab_storage.__all__)
    for name in trimtab_storage.__all__:
        assert getattr(trimtab_storage, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'engines'"):
        trimtab_storage.engines  # noqa: B018


def test_store_is_light_to_import() -> None:
    """On a slow machine the database library alone takes longer; the bound moves with it."""
    code = (
        "import sys, time; start = time.process_time(); import sqlalchemy;"
        "library = time.process_time() - start; from trimtab_storage import Store;"
        "print(time.process_time() - start, library);"
        "print(*{'pandas', 'numpy', 'torch', 'ray', 'sqlalchemy.orm'} & set(sys.modules))"
    )
    # Processor time, so that other work on the machine does not count.
    outputs = [run(code).split("\n") for _ in range(5)]
    times = [[float(seconds) for seconds in first.split()] for first, *_ in outputs]
    taken, library = (min(column) for column in zip(*times, strict=True))
    assert taken <= max(0.25, 1.5 * library)
    assert outputs[0][1] == ""


def test_package_itself_loads_no_database_library() -> None:
    assert run("import sys, trimtab_storage; print('sqlalchemy' in sys.modules)") == "False\n"
