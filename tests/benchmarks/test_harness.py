from __future__ import annotations

import importlib.util
import json
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = [
    "name",
    "figure",
    "unit",
    "goal",
    "better",
    "baseline",
    "seeds",
    "versions",
    "hardware",
    "command",
    "rows",
]
NOON = datetime(2030, 1, 2, 12, 0, 0, tzinfo=UTC)

TWO_FIGURES = """
BENCHMARKS = [
    {"name": "toy-speed", "goal": 2.0, "unit": "x", "better": "higher"},
    {"name": "toy-drop", "goal": 1, "unit": "pt", "better": "lower"},
]

def run(seed):
    common = {"baseline": {"dense": 1.0}, "seeds": [seed], "rows": [{"seed": seed}]}
    return {"toy-speed": {"figure": 2.5, **common}, "toy-drop": {"figure": 1.25, **common}}
"""


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("_harness", ROOT / "benchmarks" / "_harness.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "a_toy.py").write_text(TWO_FIGURES)
    yield tmp_path
    sys.modules.pop("a_toy", None)


def test_a_result_names_the_commit_and_whether_files_differ(harness, root):
    def git(*words):
        identity = ("-c", "user.name=one", "-c", "user.email=one@example.com")
        subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "a toy")
    at = harness._commit(root)
    assert len(at) >= 7 and set(at) <= set("0123456789abcdef")
    (root / "benchmarks" / "a_toy.py").write_text(TWO_FIGURES + "\n")
    assert harness._commit(root) == f"{at}-dirty"


def results_of(root: Path, name: str) -> list[Path]:
    return sorted((root / "benchmarks" / "results" / name).glob("*.json"))


def test_a_run_adds_one_file_for_each_figure_and_says_how_it_did(harness, root, capsys):
    assert harness.main(["a-toy", "--seed", "3"], root, lambda: NOON) == 0
    (path,) = results_of(root, "toy-speed")
    assert path.name == "20300102T120000Z.json"
    result = json.loads(path.read_text())
    assert list(result) == KEYS
    assert (result["figure"], result["goal"], result["seeds"]) == (2.5, 2.0, [3])
    assert result["command"] == "make bench NAME=a-toy SEED=3"
    assert set(result["versions"]) == {
        "python",
        "torch",
        "transformers",
        "optuna",
        "ray",
        "trimtab",
        "commit",
    }
    assert result["versions"]["commit"] == "unknown"  # the folder is no clone
    assert result["hardware"]["cores"] >= 1 and result["hardware"]["memory_gib"] > 0
    out = capsys.readouterr().out
    assert "toy-speed: 2.5 x (goal ≥ 2 x): met" in out
    assert "toy-drop: 1.25 pt (goal ≤ 1 pt): short" in out


def test_a_result_does_not_tell_whose_machine_it_was(harness, root):
    harness.main(["a-toy"], root, lambda: NOON)
    text = results_of(root, "toy-speed")[0].read_text()
    assert str(root) not in text
    assert str(ROOT) not in text
    assert f'"{platform.node()}"' not in text


def test_a_result_is_never_overwritten(harness, root):
    harness.main(["a-toy"], root, lambda: NOON)
    before = results_of(root, "toy-speed")[0].read_text()
    toy = root / "benchmarks" / "a_toy.py"
    toy.write_text(TWO_FIGURES.replace("2.5", "1.5"))
    harness.main(["a-toy"], root, lambda: NOON)
    first, second = sorted(results_of(root, "toy-speed"), key=harness._age)
    assert first.read_text() == before
    assert json.loads(second.read_text())["figure"] == 1.5
    assert "| 1.5 x | ≥ 2 x | short |" in (root / "docs" / "benchmarks.md").read_text()


def test_the_page_shows_the_latest_of_each_figure(harness, root):
    harness.main(["a-toy"], root, lambda: NOON)
    toy = root / "benchmarks" / "a_toy.py"
    toy.write_text(TWO_FIGURES.replace("2.5", "2.75"))
    harness.main(["a-toy"], root, lambda: NOON + timedelta(days=1))
    page = (root / "docs" / "benchmarks.md").read_text()
    assert "generated" in page
    assert "| 2.75 x | ≥ 2 x | met | dense 1 | 2030-01-03 | `make bench NAME=a-toy` |" in page
    assert "| 1.25 pt | ≤ 1 pt | short |" in page
    assert "Results so far: 2" in page
    assert "2.5 x" not in page


@pytest.mark.parametrize("name", ["", "nothing", "_harness", "../a_toy"])
def test_an_unknown_benchmark_is_refused_with_the_names_there_are(harness, root, name, capsys):
    assert harness.main([name], root, lambda: NOON) == 2
    assert "there are: a_toy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("1.25, **common", "float('nan'), **common", "finite"),
        ('"toy-drop": {', '"another": {', "must give figure"),
        ("1.25, **common", "1.25, **common | {'rows': [{1, 2}]}", "plain JSON"),
        ('"better": "lower"', '"better": "smaller"', "'higher' or 'lower'"),
        ('"name": "toy-drop"', '"name": "../toy"', "lower-case"),
    ],
)
def test_a_malformed_benchmark_adds_nothing_at_all(harness, root, capsys, old, new, says):
    assert old in TWO_FIGURES
    (root / "benchmarks" / "a_toy.py").write_text(TWO_FIGURES.replace(old, new))
    assert harness.main(["a-toy"], root, lambda: NOON) == 2
    assert says in capsys.readouterr().err
    assert not (root / "benchmarks" / "results").exists()


A_TRY = """
import os

TRY = "N: so many"
SIZE = int(os.environ.get("TRIMTAB_TRY", "100"))
BENCHMARKS = [{"name": "toy-size", "goal": 50, "unit": "toys", "better": "higher"}]

def run(seed):
    return {"toy-size": {"figure": SIZE, "baseline": "none", "seeds": [seed], "rows": [{}]}}
"""


@pytest.mark.parametrize("arguments", [["--try", "7"], ["--try", ""], []])
def test_a_try_is_printed_and_never_added(harness, root, capsys, monkeypatch, arguments):
    monkeypatch.setenv("TRIMTAB_TRY", "8" if "7" in arguments else "7")
    (root / "benchmarks" / "a_toy.py").write_text(A_TRY)
    assert harness.main(["a-toy", *arguments], root, lambda: NOON) == 0
    assert "toy-size: 7 in a try, not added" in capsys.readouterr().out
    assert not (root / "benchmarks" / "results").exists()
    monkeypatch.setenv("TRIMTAB_TRY", "")
    assert harness.main(["a-toy", "--try", ""], root, lambda: NOON) == 0
    (path,) = results_of(root, "toy-size")
    assert json.loads(path.read_text())["figure"] == 100


def test_what_has_no_smaller_run_refuses_a_try(harness, root, capsys, monkeypatch):
    monkeypatch.setenv("TRIMTAB_TRY", "")
    assert harness.main(["a-toy", "--try", "7"], root, lambda: NOON) == 2
    assert "no smaller run" in capsys.readouterr().err


def test_nothing_else_in_the_environment_makes_a_benchmark_smaller():
    for path in (ROOT / "benchmarks").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        read = set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", text))
        assert read <= {"TRIMTAB_DATA", "TRIMTAB_TRY"}, path.name
        assert ("TRIMTAB_TRY" in read) == ("\nTRY = " in text), path.name


def test_the_page_in_the_repository_is_what_its_results_say(harness):
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == harness.render_page(ROOT / "benchmarks" / "results")
