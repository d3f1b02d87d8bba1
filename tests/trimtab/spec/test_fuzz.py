"""The fuzzer of the benchmarks, in small."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from trimtab.spec import Spec

FUZZER = Path(__file__).parents[3] / "benchmarks" / "spec_fuzz.py"


@pytest.fixture(scope="module")
def fuzzer() -> Any:
    found = importlib.util.spec_from_file_location("spec_fuzz", FUZZER)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_unbroken_spec_is_accepted(fuzzer: Any) -> None:
    Spec.from_mapping(fuzzer.BASE)


def test_broken_specs_end_in_clear_errors(fuzzer: Any, seed: int) -> None:
    result = fuzzer.measure(seed, 1_000)
    assert result["tracebacks"] == 0, result["first_traceback"]
    assert 0 < result["accepted"] < 500
    assert result["p99_ms"] <= 100


def test_the_fuzzer_notices_a_traceback(fuzzer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr("trimtab.spec._reader.read_yaml", fail)
    result = fuzzer.measure(0, 50)
    assert result["tracebacks"] > 0
    assert "RecursionError: deep" in result["first_traceback"]
