"""Runs one benchmark and adds its result: ``python benchmarks/_harness.py NAME``.

A benchmark is a file ``benchmarks/NAME.py`` (dashes in NAME are underscores in the file) with

    BENCHMARKS = [{"name": "…", "goal": 2.0, "unit": "x", "better": "higher"}, …]

and ``run(seed)``, which gives for each of these names a mapping with ``figure`` (a number),
``baseline`` (what it is compared with), ``seeds`` and ``rows`` (the measurements behind it).
Results are only ever added, one file each, and ``docs/benchmarks.md`` is written from them.

A file with ``TRY = "N: so many studies"`` says what a smaller run of it may be asked for, which it
finds in the environment as TRIMTAB_TRY. Such a try is printed, and never added.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("figure", "baseline", "seeds", "rows")
DECLARED = ("name", "goal", "unit", "better")
PACKAGES = ("torch", "transformers", "optuna", "ray", "trimtab")
TRY_VARIABLE = "TRIMTAB_TRY"
STAMP = "%Y%m%dT%H%M%SZ"

Result = dict[str, Any]


class BenchmarkError(Exception):
    """A benchmark that is not there or does not keep to the form; one clear line."""


def main(
    argv: Sequence[str] | None = None,
    root: Path = ROOT,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> int:
    """Runs the benchmark that is named, or only writes the page; gives the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="", help="the benchmark, as in NAME=…")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--try", dest="smaller", default="", help="run less, and add nothing")
    parser.add_argument("--docs", action="store_true", help="only write docs/benchmarks.md")
    options = parser.parse_args(argv)
    # Never both a smaller run and a result, however it was asked for.
    smaller = options.smaller or os.environ.pop(TRY_VARIABLE, "")
    try:
        if smaller and not options.docs:
            run_a_try(options.name, options.seed, smaller, root)
        elif not options.docs:
            run_and_add(options.name, options.seed, root, now)
        write_page(root)
    except BenchmarkError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


def run_and_add(name: str, seed: int, root: Path, now: Callable[[], datetime]) -> None:
    """Runs all figures of one benchmark file and adds them, or none if one is malformed.

    Raises:
        BenchmarkError: if there is no such benchmark or it does not keep to the form.
    """
    module = load(name, root / "benchmarks")
    declared = _checked_declarations(name, module)
    command = f"make bench NAME={name}" + (f" SEED={seed}" if seed else "")
    code = _commit(root)  # before it runs, as somebody may go on working
    measured = module.run(seed)
    results = [_result(entry, measured, command, code) for entry in declared]
    texts = [_json(result) for result in results]
    for result, text in zip(results, texts, strict=True):
        _add(result["name"], text, root / "benchmarks" / "results", now())
        print(_verdict_line(result))


def run_a_try(name: str, seed: int, smaller: str, root: Path) -> None:
    """Runs less of a benchmark and prints its figures, which are those of no result.

    Raises:
        BenchmarkError: if there is no such benchmark or there is no less of it to run.
    """
    os.environ[TRY_VARIABLE] = smaller  # before it is imported, and for processes that it starts
    module = load(name, root / "benchmarks")
    if not hasattr(module, "TRY"):
        raise BenchmarkError(f"{name} has no smaller run: leave TRY={smaller} out")
    print(f"a try with {smaller!r} ({module.TRY}); nothing is added")
    measured = module.run(seed)
    for entry in _checked_declarations(name, module):
        print(f"{entry['name']}: {measured[entry['name']]['figure']:.6g} in a try, not added")


def load(name: str, folder: Path) -> ModuleType:
    """Imports the file of a benchmark.

    Raises:
        BenchmarkError: if there is none of that name; the message lists those there are.
    """
    path = folder / f"{name.replace('-', '_')}.py"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) or not path.is_file():
        there_are = ", ".join(p.stem for p in sorted(folder.glob("[!_]*.py"))) or "none yet"
        raise BenchmarkError(f"NAME must be a benchmark, but got {name!r}; there are: {there_are}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that workers of the benchmark can unpickle from it
    spec.loader.exec_module(module)
    return module


def _checked_declarations(name: str, module: ModuleType) -> list[Mapping[str, Any]]:
    declared: list[Mapping[str, Any]] = module.BENCHMARKS
    for entry in declared:
        if set(entry) != set(DECLARED) or entry["better"] not in ("higher", "lower"):
            raise BenchmarkError(
                f"each of BENCHMARKS in {name} must have {', '.join(DECLARED)}, with better "
                f"'higher' or 'lower', but got {dict(entry)}"
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", entry["name"]):
            raise BenchmarkError(
                "a figure's name must be lower-case letters, digits, dashes and underscores, "
                f"but got {entry['name']!r}"
            )
    return declared


def _result(
    entry: Mapping[str, Any], measured: Mapping[str, Any], command: str, code: str
) -> Result:
    """Puts declaration, measurement and circumstances together, in the order of the file."""
    name = entry["name"]
    got = measured.get(name, {})
    if set(got) != set(MEASURED):
        raise BenchmarkError(
            f"run(seed) must give {', '.join(MEASURED)} for {name!r}, but gave "
            f"{', '.join(got) or 'nothing'}"
        )
    if not (math.isfinite(got["figure"]) and math.isfinite(entry["goal"])):
        raise BenchmarkError(f"figure and goal of {name!r} must be finite, but got {got['figure']}")
    return {
        "name": name,
        "figure": float(got["figure"]),
        "unit": entry["unit"],
        "goal": float(entry["goal"]),
        "better": entry["better"],
        "baseline": got["baseline"],
        "seeds": list(got["seeds"]),
        "versions": {**_versions(), "commit": code},
        "hardware": _hardware(),
        "command": command,
        "rows": list(got["rows"]),
    }


def _versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}


def _commit(root: Path) -> str:
    """Names the commit that a folder is at, with `-dirty` where files differ; or `unknown`."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _hardware() -> dict[str, Any]:
    """What a figure depends on, and nothing that tells whose machine it was."""
    import psutil

    hardware = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
    torch = sys.modules.get("torch")  # a benchmark that never loaded it used no accelerator
    if torch is not None and torch.cuda.is_available():
        hardware["accelerator"] = torch.cuda.get_device_name()
    return hardware


def _json(result: Result) -> str:
    try:
        return json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"{result['name']!r} must give plain JSON values: {error}") from error


def _add(name: str, text: str, folder: Path, when: datetime) -> None:
    """Writes a result under its time; two within one second are told apart by a number."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    stem = when.astimezone(UTC).strftime(STAMP)
    for number in range(1, 1000):
        path = place / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        except FileExistsError:
            continue
    raise BenchmarkError(f"{place} has too many results of one second; run it again")


def is_met(result: Result) -> bool:
    """Tells whether the figure reaches its goal; equal is enough."""
    figure, goal = float(result["figure"]), float(result["goal"])
    return figure >= goal if result["better"] == "higher" else figure <= goal


def _verdict_line(result: Result) -> str:
    sign = "≥" if result["better"] == "higher" else "≤"
    verdict = "met" if is_met(result) else "short"
    figure, goal, unit = result["figure"], result["goal"], result["unit"]
    return f"{result['name']}: {figure:.6g} {unit} (goal {sign} {goal:.6g} {unit}): {verdict}"


def write_page(root: Path) -> None:
    """Writes ``docs/benchmarks.md`` from the latest result of each name."""
    page = root / "docs" / "benchmarks.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(render_page(root / "benchmarks" / "results"), encoding="utf-8")


def render_page(results: Path) -> str:
    """Gives the page's text: one table for each name, the latest result in it."""
    parts = [
        "# Benchmarks",
        "",
        "This page is generated from `benchmarks/results/` by `make bench` and `make docs`; do not",
        "edit it. Results are added and never changed, those that fall short of their goal too.",
    ]
    folders = sorted(p for p in results.glob("*") if any(p.glob("*.json")))
    for folder in folders:
        files = sorted(folder.glob("*.json"), key=_age)
        parts += ["", *_table(json.loads(files[-1].read_text("utf-8")), files)]
    if not folders:
        parts += ["", "No result has been added yet."]
    return "\n".join(parts) + "\n"


def _age(path: Path) -> tuple[str, int]:
    stamp, _, number = path.stem.partition("-")
    return stamp, int(number or 1)


def _table(result: Result, files: Sequence[Path]) -> list[str]:
    date = datetime.strptime(_age(files[-1])[0], STAMP).strftime("%Y-%m-%d")
    sign = "≥" if result["better"] == "higher" else "≤"
    hardware = result["hardware"]
    cells = [
        f"{result['figure']:.6g} {result['unit']}",
        f"{sign} {result['goal']:.6g} {result['unit']}",
        "met" if is_met(result) else "short",
        _cell(result["baseline"]),
        date,
        f"`{result['command']}`",
        f"{hardware['cores']} cores, {hardware['machine']}",
    ]
    return [
        f"## {result['name']}",
        "",
        "| latest figure | goal | goal is | baseline | date (UTC) | command | on |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |",
        "",
        f"Results so far: {len(files)}, in `benchmarks/results/{result['name']}/`.",
    ]


def _cell(value: Any) -> str:
    """Writes a baseline, which may be text, a number, or a mapping of them, in one cell."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
