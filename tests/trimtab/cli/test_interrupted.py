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
    number: int, workspace: Any, command: Any
) -> None:
    workspace.edit({"epochs: 10": "epochs: 1000"})
    process = subprocess.Popen(
        [sys.executable, "-m", "trimtab", "run", str(workspace.spec), "--db", workspace.db],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
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
