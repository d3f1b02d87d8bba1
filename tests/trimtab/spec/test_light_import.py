"""The spec layer starts quickly and pulls in nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "datasets", "ray", "pandas", "sqlalchemy", "numpy", "tokenizers"}
CODE = """
import json, sys, time
start = time.process_time()
import trimtab.spec
seconds = time.process_time() - start
spec = trimtab.spec.Spec.load({path!r})
errors = trimtab.spec.check_files(spec)
print(json.dumps([seconds, sorted({{name.split(".")[0] for name in sys.modules}})]))
"""


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, set[str]]]:
    path = tmp_path_factory.mktemp("light") / "spec.yaml"
    path.write_text(
        "name: a\nmodel: ./m\ntask: {train: a.tsv, validation: b.tsv}\nbudget: {flops: 40%}\n"
        "search: {strategies: [{fisher: {calibration: 256}}]}\n"
    )
    return [_probe(path) for _ in range(4)]


def _probe(path: Path) -> tuple[float, set[str]]:
    command = [sys.executable, "-c", CODE.format(path=str(path))]
    seconds, names = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return seconds, set(names)


def test_nothing_heavy_is_imported(probes: list[tuple[float, set[str]]]) -> None:
    assert probes[0][1] & HEAVY == set()


def test_import_takes_at_most_200_ms(probes: list[tuple[float, set[str]]]) -> None:
    # The best of some, in CPU time: a busy machine is not the spec's fault.
    assert min(seconds for seconds, _ in probes) <= 0.2
