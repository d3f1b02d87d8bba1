"""Ctrl-C and `kill` in the middle of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_can_go_on(
    number: int, workspace: Any, command: Any, request: pytest.FixtureRequest
) -> None:
    workspace.edit({"epochs: 10": "epochs: 1000"})
    process = subprocess.Popen(
        [sys.executable, "-m", "trimtab", "run", str(workspace.spec), "--db", workspace.db],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    request.addfinalizer(process.kill)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("480 training rows")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        "stopped; what was measured is kept, and the same command goes on from there"
    )
    assert "Traceback" not in err
    ran = command("status", "--db", workspace.db)
    assert "state      interrupted" in ran.out


MODULE = """
import signal
import sys
import trimtab.cli._main as main

# As an import does that makes a dataclass.
main._invoke = lambda *_: exec("signal.raise_signal(signal.SIGTERM)")
sys.exit(main.run_command(["status"]))
"""


def test_the_exit_code_holds_where_a_string_is_executed(tmp_path: Path) -> None:
    (tmp_path / "stopping.py").write_text(MODULE)
    words = [sys.executable, "-m", "stopping"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:7]) == (130, "stopped")


LOST = """
import signal
import sys
import time
import trimtab.cli._main as main
from trimtab.cli._signals import was_stopped

def lose():
    try:
        signal.raise_signal(signal.SIGINT)
    except:
        pass

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def is_finalized(*_):
    Finalized()
    time.sleep(20)
    raise AssertionError("the signal was lost")

def loses(*_):
    lose()
    assert was_stopped()
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("the second signal was lost too")

def cleans_up(*_):
    lose()
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGTERM)
        print("cleaned up")

main._invoke = globals()[sys.argv[1]]
sys.exit(main.run_command(["status"]))
"""


@pytest.mark.parametrize(
    ("case", "out", "patience"),
    [("is_finalized", "", False), ("loses", "", False), ("cleans_up", "cleaned up\n", True)],
)
def test_signals_are_not_lost(case: str, out: str, patience: bool, python: Any) -> None:
    ran = python(LOST, case)
    assert (ran.code, ran.out) == (130, out)
    assert ran.err.splitlines()[-1].startswith("stopped; what was measured is kept")
    assert ("stopping already" in ran.err) == patience
    assert "Traceback" not in ran.err


IMPORTING = """
import sys
import time
import trimtab.cli._main as main

def imports(*_):
    import library
    time.sleep(20)
    raise AssertionError("the signal was lost")

sys.path.insert(0, sys.argv[1])
main._invoke = imports
sys.exit(main.run_command(["status"]))
"""


def test_a_signal_waits_for_the_end_of_an_import(tmp_path: Path, python: Any) -> None:
    """In one that is not written in Python its exception would end the process."""
    (tmp_path / "library.py").write_text(
        "import signal, time\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "time.sleep(0.5)\n"
        "print('imported')\n"
    )
    ran = python(IMPORTING, tmp_path)
    assert (ran.code, ran.out) == (130, "imported\n")
    assert ran.err.splitlines()[-1].startswith("stopped; what was measured is kept")


SWALLOWING = """
import signal
import sys
import trimtab_workers.executors._inline as inline
from trimtab.cli import run_command

run = inline.run_guarded

def run_and_swallow(*arguments):
    try:
        signal.raise_signal(signal.SIGTERM)
    except:
        pass
    return run(*arguments)

inline.run_guarded = run_and_swallow
sys.exit(run_command(["run", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_signal_that_a_library_swallowed_ends_the_run_after_the_job(
    workspace: Any, command: Any, python: Any
) -> None:
    ran = python(SWALLOWING, workspace.spec, "--db", workspace.db, "--quiet")
    assert (ran.code, ran.out) == (130, "")
    assert "was stopped; the same command continues it" in ran.err
    assert "state      interrupted" in command("status", "--db", workspace.db).out
