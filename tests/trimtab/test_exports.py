"""The face of the package: what it names is there, and looking at it costs little."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import trimtab

ROOT = Path(__file__).parents[2]
HEAVY = {
    *("torch", "transformers", "ray", "pandas", "datasets", "optuna", "sqlalchemy", "pydantic"),
    *("numpy", "typer", "rich", "yaml"),
}
LOOK = """
import sys
import trimtab
names = {name.partition(".")[0] for name in sys.modules}
print(*sorted(names))
"""
READ = """
import sys
import trimtab
study = trimtab.open_study("starter", db=sys.argv[1])
study.status()
study.points()
study.choose()
study.frontier_points()
study.trial_rows()
names = {name.partition(".")[0] for name in sys.modules}
assert not names & {"torch", "transformers", "ray", "pandas", "datasets"}, names
frontier, trials = study.frontier(max_drop=0.5), study.trials()
names = {name.partition(".")[0] for name in sys.modules}
assert not names & {"torch", "transformers", "ray", "datasets"}, names
print(len(frontier), len(trials))
"""


def test_all_names_are_there_and_no_others() -> None:
    assert sorted(trimtab.__all__) == trimtab.__all__
    for name in trimtab.__all__:
        value = getattr(trimtab, name)
        assert value.__name__ == name
        assert value.__doc__
        assert value.__module__.partition(".")[0] == "trimtab"
    namespace: dict[str, Any] = {}
    exec("from trimtab import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(trimtab.__all__)


def test_what_is_lazy_is_what_is_declared() -> None:
    assert set(trimtab._HOMES) == set(trimtab.__all__)
    source = Path(trimtab.__file__).read_text()
    typed = re.findall(r"^    from \S+ import (\w+) as \1$", source, flags=re.M)
    assert sorted(typed) == trimtab.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'trimtab' has no attribute 'lod'"):
        trimtab.lod  # noqa: B018


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert trimtab.__version__ == project["version"] == version("trimtab")


def test_importing_it_is_light(python: Callable[..., Any]) -> None:
    ran = python(LOOK)
    assert ran.code == 0, ran.err
    assert not set(ran.out.split()) & HEAVY


def test_a_finished_study_is_read_without_torch_or_ray(
    finished: Any, python: Callable[..., Any]
) -> None:
    ran = python(READ, finished.db)
    assert ran.code == 0, ran.err
    n_points, n_trials = map(int, ran.out.split())
    assert n_points >= 1
    assert n_trials == 2


def test_the_frames_say_what_the_commands_say(finished: Any, command: Callable[..., Any]) -> None:
    import json

    study = trimtab.open_study("starter", db=finished.db)
    for limits, options in (({}, []), ({"max_flops": 0.45}, ["--max-flops", "45%"])):
        said = command("frontier", "--db", finished.db, "--json", *options)
        points = json.loads(said.out)["points"]
        frame = study.frontier(**limits)  # type: ignore[arg-type]
        for name in ("id", "metric", "drop", "flops", "flops_ratio", "params", "n", "feasible"):
            assert frame[name].tolist() == [point[name] for point in points]
    trials = study.trials()
    assert trials["state"].tolist() == ["complete", "complete"]


def test_limits_may_be_text_in_python_too(finished: Any) -> None:
    study = trimtab.open_study("starter", db=finished.db)
    assert study.frontier(max_flops="45%").equals(study.frontier(max_flops=0.45))
    assert study.frontier(max_drop="2 pt").equals(study.frontier(max_drop=0.02))


def test_a_study_that_is_not_there_is_said_at_once(finished: Any) -> None:
    with pytest.raises(trimtab.TrimtabError, match="no study 'nope' in .*; there are: starter"):
        trimtab.open_study("nope", db=finished.db)
