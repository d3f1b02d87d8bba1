"""`kill -9` in the middle of an emission."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import trimtab

SEED = 20_240_609
KILLS = 10


def start(db: str, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trimtab", "emit", "--db", db, "--out", str(out), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_folder_of_the_final_name_is_always_whole(finished_copy: Any, tmp_path: Path) -> None:
    rng, out = random.Random(SEED), tmp_path / "out"
    began = time.monotonic()
    assert start(finished_copy.db, tmp_path / "first").wait() == 0
    whole_run_s = time.monotonic() - began
    for number in range(KILLS):
        # Half of them replace a checkpoint that is there.
        options = ("--force", "--max-flops", "35%") if number % 2 else ("--force",)
        process = start(finished_copy.db, out, *options)
        seconds = rng.uniform(0.3, 1.1) * whole_run_s
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"seed {SEED}, kill {number} after {seconds:.2f} s: {sorted(tmp_path.iterdir())}")
        if out.exists():
            trimtab.verify(out)
    assert start(finished_copy.db, out, "--force").wait() == 0
    trimtab.verify(out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "first", "out"]
