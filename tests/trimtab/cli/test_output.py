"""What people see, and what pipes get: data on stdout, progress on stderr, no decoration."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trimtab
from trimtab.cli._tables import big, duration, one_line
from trimtab.errors import InputError
from trimtab_storage import Store

ESCAPE = "\x1b"
READERS = ["status", "trials", "frontier"]


def clean(text: str) -> bool:
    """Tells whether a text has neither escape codes nor spaces at the ends of lines."""
    return ESCAPE not in text and not any(line != line.rstrip() for line in text.split("\n"))


# Tables


def test_status(searched: str, command: Callable[..., Any]) -> None:
    ran = command("status", "--db", searched)
    recipe = "fisher(calibration=512, constraint=0.4, rearrange=on)"
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "study      reviews",
        "state      finished",
        "trials     2 complete, 1 failed",
        "baseline   0.9000 at 1 GFLOPs",
        f"best       point 3: 40.0% FLOPs at +1.00 pt ({recipe})",
        "time used  1 min 2 s",
    ]


def test_status_of_a_study_that_runs(searching: str, command: Callable[..., Any]) -> None:
    lines = command("status", "--db", searching).out.splitlines()
    assert lines[1] == "state      running"
    assert lines[2] == "trials     1 waiting, 1 running, 1 complete"
    assert lines[-1] == "time left  at most 28 min 58 s"


def test_status_before_anything_is_measured(
    add_study: Callable[..., str], command: Callable[..., Any]
) -> None:
    ran = command("status", "--db", add_study("new", measured=False))
    assert ran.out.splitlines()[:4] == [
        "study      new",
        "state      new",
        "trials     none yet",
        "baseline   not measured yet",
    ]


def test_status_while_the_baseline_is_measured(
    fine_tuning: str, command: Callable[..., Any]
) -> None:
    assert command("status", "--db", fine_tuning).out.splitlines()[:4] == [
        "study      reviews",
        "state      running",
        "trials     none yet",
        "baseline   being measured, after fine-tuning where the model has no head",
    ]


def test_frontier(searched: str, command: Callable[..., Any]) -> None:
    ran = command("frontier", "--db", searched)
    lines = ran.out.splitlines()
    assert lines[0] == "reviews: accuracy 0.9000 at 1 GFLOPs is the baseline; 5 points measured"
    assert lines[1].split() == [
        *("point", "FLOPs", "of", "baseline", "accuracy", "drop", "params", "recipe")
    ]
    marks = [line[0] for line in lines[2:-1]]
    assert marks == ["-", "*", "-", "-"]
    assert lines[3].split()[:9] == [
        *("*", "3", "400", "M", "40.0%", "0.8900", "+1.00", "pt", "400")
    ]
    assert lines[-1] == "best within the limits: point 3: 40.0% FLOPs at +1.00 pt"


LATENCY = {"statistic": "p95", "value": 6.1, "low": 5.9, "high": 6.4, "verdict": "stable"}


def test_frontier_of_latency(
    add_study: Callable[..., str], point: Callable[..., Any], command: Callable[..., Any]
) -> None:
    noisy = {**LATENCY, "value": 3.0, "verdict": "unstable"}
    timed = point("b050", 0.5, 0.01, latency=LATENCY)
    db = add_study("fast", timed, point("b030", 0.3, 0.02, latency=noisy))
    ran = command("frontier", "--cost", "latency", "--db", db)
    head, columns, row, best = ran.out.splitlines()
    assert columns.split()[4:6] == ["latency", "accuracy"]
    assert "6.1 ms [5.9, 6.4] p95" in row
    assert best == (
        "best within the limits: point 2: 50.0% FLOPs, 6.1 ms [5.9, 6.4] p95 at +1.00 pt"
    )
    rows = command("frontier", "--db", db).out.splitlines()[2:-1]
    assert [("ms" in row, "–" in row, "unstable" in row) for row in rows] == [
        (True, False, True),
        (True, False, False),
        (False, True, False),  # the dense baseline
    ]
    said = command("status", "--db", db).out
    assert "point 2: 50.0% FLOPs, 6.1 ms [5.9, 6.4] p95 at +1.00 pt (" in said


def test_the_baselines_latency_is_shown(
    add_study: Callable[..., str], command: Callable[..., Any]
) -> None:
    db = add_study("fast")
    with Store.open(db) as store:
        study = store.study("fast")
        assert study is not None and study.baseline is not None
        lease = store.acquire(study.id, "test", 3600)
        known = {**LATENCY, "workload": {"batch_size": 1}}
        store.update_study(lease, baseline={**study.baseline, "latency_ms": known})
        store.release(lease)
    dense = "0.9000 at 1 GFLOPs, 6.1 ms [5.9, 6.4] p95"
    assert f"accuracy {dense} is the baseline" in command("frontier", "--db", db).out
    assert dense in command("status", "--db", db).out
    for told in (
        command("status", "--db", db, "--json"),
        command("frontier", "--db", db, "--json"),
    ):
        latency = json.loads(told.out)["baseline"]["latency_ms"]
        assert (latency["value"], "workload" in latency) == (6.1, False)


def test_frontier_where_nothing_meets_the_limits(
    searched: str, command: Callable[..., Any]
) -> None:
    ran = command("frontier", "--db", searched, "--max-flops", "35%", "--max-drop", "1pt")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1:] == [
        "nothing meets the limits; closest: point 3: 40.0% FLOPs at +1.00 pt",
        "  it would be enough to raise flops from 35% to 40% (point 3: drop 1 pt)",
        "  it would be enough to raise max_drop from 1 pt to 5 pt (point 4: 30% FLOPs)",
    ]


def test_a_cost_that_was_not_measured(
    searched: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    """Every command says so in the same way, instead of answering with nothing."""
    said = (
        "no latency was measured in this study: leave out max_latency, and ask for the cost flops\n"
    )
    out = tmp_path / "out.png"
    for arguments in (
        ["frontier", "--cost", "latency"],
        ["frontier", "--cost", "latency", "--json"],
        ["frontier", "--cost", "latency", "--csv"],
        ["plot", "--cost", "latency", "--out", str(out)],
        ["frontier", "--max-latency", "8ms"],
        ["frontier", "--max-latency", "0.5 s", "--json"],
        ["emit", "--max-latency", "8", "--out", str(out)],
    ):
        ran = command(*arguments, "--db", searched)
        assert (ran.code, ran.out, ran.err) == (2, "", said)
    assert not out.exists()


def test_python_is_told_too_that_no_latency_was_measured(searched: str, tmp_path: Path) -> None:
    study = trimtab.open_study("reviews", db=searched)
    for ask in (
        lambda: study.frontier(cost="latency"),
        lambda: study.frontier(max_latency=8),
        lambda: study.emit(tmp_path / "out", max_latency=8),
    ):
        with pytest.raises(InputError, match="no latency was measured"):
            ask()


def test_frontier_before_anything_is_measured(
    add_study: Callable[..., str], command: Callable[..., Any]
) -> None:
    ran = command("frontier", "--db", add_study("new", measured=False))
    assert (ran.code, ran.out) == (0, "new: nothing is measured yet\n")


def test_trials_have_one_line_each(searched: str, command: Callable[..., Any]) -> None:
    """A reason may be a traceback with colours and brackets; the table stays a table."""
    lines = command("trials", "--db", searched).out.splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("error: [red] [31mboom[/x] :bomb: Traceback (most recent call last)")


def test_no_failed_trials_is_said(add_study: Callable[..., str], command: Any) -> None:
    ran = command("trials", "--failed", "--db", add_study("new"))
    assert (ran.code, ran.out) == (0, "no trial of study 'new' failed\n")
    assert command("trials", "--db", add_study("new")).out == "study 'new' has no trials yet\n"


@pytest.mark.parametrize("name", READERS)
def test_without_a_terminal_there_is_no_decoration(
    name: str, searched: str, shell: Callable[..., Any]
) -> None:
    ran = shell(name, "--db", searched, TERM="xterm-256color", COLUMNS="40")
    assert (ran.code, ran.err) == (0, "")
    assert clean(ran.out)
    # Nothing is cut or wrapped either, whatever the width is said to be.
    assert "fisher(calibration=" in ran.out
    assert max(map(len, ran.out.splitlines())) > 60


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Runs a command whose stdout is a terminal, and gives what it wrote there."""
    ours, theirs = pty.openpty()
    # Without these, which a test's own surroundings may have set.
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "trimtab", *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**plain, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    assert process.wait() == 0
    return said.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""


def test_on_a_terminal_headings_stand_out(searched: str) -> None:
    said = on_a_terminal("frontier", "--db", searched, COLUMNS="200")
    assert f"{ESCAPE}[1m" in said


def test_no_color_is_obeyed(searched: str) -> None:
    said = on_a_terminal("frontier", "--db", searched, NO_COLOR="1")
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", said) for code in found.split(";")}
    assert codes <= {"", "0", "1"}


def test_a_narrow_terminal_shows_whole_recipes(searched: str) -> None:
    said = on_a_terminal("frontier", "--db", searched, COLUMNS="80")
    rows = said.replace("\r", "").split("\n")
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", row)) <= 80 for row in rows)
    assert "…" not in said


# Pipes


def test_csv(searched: str, command: Callable[..., Any]) -> None:
    ran = command("frontier", "--csv", "--db", searched)
    assert (ran.code, ran.err) == (0, "")
    assert "\r" not in ran.out
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    points = json.loads(command("frontier", "--json", "--db", searched).out)["points"]
    assert list(rows[0]) == list(points[0])
    for row, point in zip(rows, points, strict=True):
        for name in ("id", "metric", "drop", "flops", "flops_ratio", "params", "n"):
            assert float(row[name]) == point[name]
        assert json.loads(row["feasible"]) is point["feasible"]
        assert json.loads(row["knobs"]) == point["knobs"]
        assert row["latency_ms"] == ""
    assert rows[1]["recipe"] == "fisher(calibration=512, constraint=0.4, rearrange=on)"


def test_csv_of_nothing_has_its_head(
    add_study: Callable[..., str], command: Callable[..., Any]
) -> None:
    ran = command("frontier", "--csv", "--db", add_study("new", measured=False))
    assert ran.out.startswith("id,recipe,knobs,metric,drop,flops,")
    assert ran.out.count("\n") == 1


@pytest.mark.parametrize(
    ("limits", "ratios"),
    [
        ([], [0.3, 0.4, 0.6, 1.0]),
        (["--max-flops", "40%"], [0.3, 0.4]),
        (["--max-flops", "0.4"], [0.3, 0.4]),
        (["--max-flops", "0.4 GFLOPs"], [0.3, 0.4]),
        (["--max-flops", "400MFLOPs"], [0.3, 0.4]),
        (["--max-flops=399 MFLOPs"], [0.3]),
        (["--max-drop", "1pt"], [0.4, 0.6, 1.0]),
        (["--max-drop", "1 pt"], [0.4, 0.6, 1.0]),
        (["--max-drop", "0.01"], [0.4, 0.6, 1.0]),
        (["--max-drop", "1e-2"], [0.4, 0.6, 1.0]),
        (["--max-drop", "1%"], [0.6, 1.0]),  # of 0.9: 0.9 pt
        (["--max-drop", "0"], [1.0]),
        (["--max-drop", "0pt"], [1.0]),
        (["--max-drop", "1pt", "--max-flops", "60%"], [0.4, 0.6]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_limits_in_all_their_spellings(
    limits: list[str], ratios: list[float], searched: str, command: Callable[..., Any]
) -> None:
    said = json.loads(command("frontier", "--json", "--db", searched, *limits).out)
    assert [point["flops_ratio"] for point in said["points"]] == ratios


@pytest.mark.parametrize(
    "arguments",
    [
        ["frontier"],
        ["frontier", "--json"],
        ["frontier", "--csv"],
        ["trials"],
        ["status"],
        ["emit", "--max-flops", "nonsense"],
    ],
    ids=" ".join,
)
def test_a_reader_that_leaves_changes_nothing(arguments: list[str], searched: str) -> None:
    """As in ``trimtab frontier | head -1``, but with a reader that has certainly left."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "trimtab", *arguments, "--db", searched],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert "Broken" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, done.stderr == "") == ((0, True), (2, False))[arguments[0] == "emit"]


REPORTING = """
import sys
from trimtab.cli._live import RunReporter

with RunReporter() as reporter:
    for number in range(1000):
        reporter.note(f"note {number}")
print("done")
"""


def test_a_reader_of_progress_that_leaves_does_not_end_a_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", REPORTING], stdout=subprocess.PIPE, stderr=writing, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_terminal_without_unicode_is_no_error(
    add_study: Callable[..., str], shell: Callable[..., Any]
) -> None:
    add_study("Büchër-критика")
    ran = shell("status", "--json", "--db", add_study("second"), PYTHONIOENCODING="ascii")
    assert ran.code == 2
    ran = shell("status", "Büchër-критика", "--db", add_study("second"), PYTHONIOENCODING="ascii")
    assert (ran.code, ran.err) == (0, "")
    assert "B\\xfcch\\xebr" in ran.out


def test_a_run_that_meets_no_limit_reports_on_stderr_and_ends_with_3(
    finished_copy: Any,
    command: Callable[..., Any],
    verify_here: None,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    # Another budget gives the study something to do, and one that nothing can meet.
    finished_copy.edit({"flops: 50%": "flops: 1%"})
    ran = command("run", finished_copy.spec, "--db", finished_copy.db, "--json")
    said = json.loads(ran.out)
    assert (ran.code, said["feasible"]) == (3, False)
    assert any(text.startswith("raise ") for text in said["relaxations"])
    assert command("verify", said["checkpoint"]).code == 0
    assert ESCAPE not in ran.err
    assert (
        "480 training rows, 120 to decide on, 120 to certify; 3 classes; 23 tokens on average"
        in ran.err.splitlines()
    )


def test_quiet_says_nothing_but_the_result(
    finished_copy: Any,
    command: Callable[..., Any],
    verify_here: None,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(finished_copy.folder)
    ran = command("run", finished_copy.spec, "--db", finished_copy.db, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert clean(ran.out)
    lines = ran.out.splitlines()
    assert lines[0].split()[0] == "point"
    assert lines[-1] == "checkpoint: runs/starter/checkpoint", "below the working directory"


def test_a_checkpoint_elsewhere_is_shown_with_its_whole_path(
    finished_copy: Any,
    command: Callable[..., Any],
    verify_here: None,
    one_thread: None,
    tmp_path: Path,
) -> None:
    ran = command("emit", "--db", finished_copy.db, "--out", tmp_path / "mine")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == f"checkpoint: {tmp_path / 'mine'}"


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.4, "999"),
        (999.6, "1 k"),
        (1234, "1.23 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (4_773_354, "4.77 M"),
        (1.2e9, "1.2 G"),
        (2.5e12, "2.5 T"),
    ],
)
def test_big_numbers_are_short(value: float, text: str) -> None:
    assert big(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_any_text_becomes_one_clean_line() -> None:
    assert one_line("a\n\tb\x1b[31m c\x00\r\n d  e") == "a b [31m c d e"
