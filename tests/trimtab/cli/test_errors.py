"""Whatever goes wrong: a documented exit code, clear lines on stderr, and nothing on stdout."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab.errors import (
    InterruptedStudyError,
    JobError,
    NothingFinishedError,
    StudyChangedError,
)
from trimtab_storage import LeaseHeldError


@pytest.fixture
def refuse(command: Callable[..., Any]) -> Callable[..., str]:
    """Runs a command that must fail with one clear line, and gives the line."""

    def run(*arguments: object, code: int = 2) -> str:
        ran = command(*arguments)
        assert (ran.code, ran.out) == (code, "")
        assert ran.err.count("\n") == 1, ran.err
        assert "Traceback" not in ran.err
        assert "internal error" not in ran.err
        return str(ran.err.rstrip("\n"))

    return run


# The database and the study

READERS = ["status", "trials", "frontier", "plot", "emit"]


@pytest.mark.parametrize("name", READERS)
def test_a_missing_database(name: str, db: str, tmp_path: Path, refuse: Any) -> None:
    assert refuse(name, "--db", db) == (
        f"no database at {tmp_path}/trimtab.db: run `trimtab run` first or pass --db"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", READERS)
def test_a_missing_study(name: str, searched: str, refuse: Any) -> None:
    assert refuse(name, "revews", "--db", searched) == (
        f"no study 'revews' in {searched}; there are: reviews"
    )


@pytest.mark.parametrize("name", READERS)
def test_several_studies(
    name: str, searched: str, add_study: Callable[..., str], refuse: Any, command: Any
) -> None:
    add_study("tweets", measured=False)
    assert refuse(name, "--db", searched) == (
        f"there are several studies in {searched}; name one of: reviews, tweets"
    )
    assert command("status", "tweets", "--db", searched).code == 0


@pytest.mark.parametrize("name", READERS)
def test_an_empty_database(name: str, db: str, refuse: Any) -> None:
    from trimtab_storage import Store

    Store.open(db).close()
    assert "there is no study in" in refuse(name, "--db", db)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("trimtab.db", "must be given as a URL such as sqlite:///trimtab.db"),
        ("postgresql://host/db", "only SQLite databases are supported so far"),
        ("sqlite://", "must name a plain file"),
        ("sqlite:///no/such/folder/x.db", "no database at"),
        ("", "must be given as a URL"),
    ],
)
def test_a_url_that_will_not_do(url: str, said: str, refuse: Any) -> None:
    assert said in refuse("status", "--db", url)


def test_a_file_that_is_no_database(tmp_path: Path, refuse: Any) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but longer than its header is\n" * 50)
    assert "must be a SQLite database" in refuse(
        "status", "--db", f"sqlite:///{tmp_path}/notes.txt"
    )


def test_a_database_of_another_program(tmp_path: Path, refuse: Any) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE study (id)")
    refuse("status", "--db", f"sqlite:///{tmp_path}/other.db")


@pytest.mark.parametrize("name", ["plot", "emit"])
def test_nothing_measured_yet(
    name: str, add_study: Callable[..., str], tmp_path: Path, refuse: Any
) -> None:
    db = add_study("new", measured=False)
    said = refuse(name, "--db", db, "--out", tmp_path / "out.png", code=4)
    assert said == "study 'new' has no measured points yet"


# The spec


@pytest.mark.parametrize("name", ["validate", "plan", "run"])
def test_a_missing_spec(name: str, tmp_path: Path, refuse: Any) -> None:
    said = refuse(name, tmp_path / "spec.yaml")
    assert said == (
        f"{tmp_path}/spec.yaml: there is no such file; `trimtab init` writes one to start from"
    )


@pytest.mark.parametrize("name", ["validate", "plan", "run"])
def test_a_folder_for_a_spec(name: str, tmp_path: Path, refuse: Any) -> None:
    assert "must be a file, but this is a folder" in refuse(name, tmp_path)


@pytest.mark.parametrize("name", ["validate", "plan", "run"])
def test_a_fault_is_shown_with_its_line(name: str, workspace: Any, command: Any) -> None:
    workspace.edit({"metric: accuracy": "metric: acuracy"})
    ran = command(name, workspace.spec)
    assert (ran.code, ran.out) == (2, "")
    place, quoted, mark = ran.err.splitlines()
    line = next(
        number
        for number, text in enumerate(workspace.spec.read_text().splitlines(), start=1)
        if "acuracy" in text
    )
    assert place.startswith(f"{workspace.spec}:{line}:11: `metric` must be one of")
    assert "metric: acuracy" in quoted
    assert mark.strip() == "^"


@pytest.mark.parametrize("name", ["validate", "plan", "run"])
def test_a_missing_file_is_shown_with_its_line(name: str, workspace: Any, command: Any) -> None:
    (workspace.folder / "starter" / "dev.tsv").unlink()
    ran = command(name, workspace.spec)
    assert (ran.code, ran.out) == (2, "")
    assert "`validation` must be a file" in ran.err
    assert not (workspace.folder / "trimtab.db").exists()


def test_a_changed_spec(finished_copy: Any, refuse: Any) -> None:
    finished_copy.edit({"seed: 0": "seed: 1", "max_length: 48": "max_length: 32"})
    said = refuse("run", finished_copy.spec, "--db", finished_copy.db)
    assert "study 'starter' exists with other values of: " in said
    assert "search.seed" in said
    assert "task.max_length" in said
    assert "give the study another name" in said


def test_an_output_that_is_taken_is_refused_before_the_search(workspace: Any, refuse: Any) -> None:
    workspace.checkpoint.mkdir(parents=True)
    (workspace.checkpoint / "thesis.tex").touch()
    said = refuse("run", workspace.spec, "--db", workspace.db)
    assert "is not a checkpoint of trimtab" in said
    assert not (workspace.folder / "trimtab.db").exists()


@pytest.mark.parametrize("output", ["spec.yaml/runs", "/proc/runs"])
def test_an_output_that_cannot_be_written_is_refused_before_the_search(
    output: str, workspace: Any, refuse: Any
) -> None:
    workspace.edit({"output: runs/starter": f"output: {output}"})
    said = refuse("run", workspace.spec, "--db", workspace.db)
    assert "cannot be written to" in said
    assert not (workspace.folder / "trimtab.db").exists()


def test_a_checkpoint_of_another_study_is_not_replaced(finished_copy: Any, refuse: Any) -> None:
    before = (finished_copy.checkpoint / "trimtab.json").read_bytes()
    finished_copy.edit({"name: starter": "name: second"})
    said = refuse("run", finished_copy.spec, "--db", finished_copy.db)
    assert said == (
        f"{finished_copy.checkpoint} is a checkpoint of another study, 'starter', so it is not "
        "replaced: give another output, or move it away"
    )
    assert (finished_copy.checkpoint / "trimtab.json").read_bytes() == before
    assert [entry.name for entry in finished_copy.checkpoint.parent.iterdir()] == ["checkpoint"]


def test_a_study_that_another_process_holds(
    searched: str, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(LeaseHeldError("box-1/373@7434.73", 0.0), monkeypatch)
    assert refuse("status", "--db", searched) == (
        "a study has one controller at a time, but process 373 on box-1 holds this one: "
        "wait until it has finished, or stop it first"
    )
    _raise(LeaseHeldError("somebody", 0.0), monkeypatch)
    assert "but somebody holds this one" in refuse("status", "--db", searched)


# Options and arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["fronteir"], "Did you mean 'frontier'?"),
        (["status", "--foo"], "No such option: --foo"),
        (["status", "one", "two"], "unexpected extra argument"),
        (["validate"], "Missing argument 'SPEC'"),
        (["verify"], "Missing argument 'DIR'"),
        (["frontier", "--max-drop"], "--max-drop"),
        (["--version-of-what"], "No such option"),
    ],
)
def test_a_command_line_that_is_not_one(arguments: list[str], said: str, refuse: Any) -> None:
    line = refuse(*arguments)
    assert said in line
    assert "--help`)" in line


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--max-drop", "5", "write `5 pt` for points of the metric or `5%` of its value"),
        ("--max-drop", "-1pt", "max_drop must not be negative"),
        ("--max-drop", "abc", "max_drop must be a drop with a unit"),
        ("--max-drop", "nan", "max_drop must be"),
        ("--max-drop", "200pt", "from 0 pt to 100 pt"),
        ("--max-flops", "1.5", "max_flops must be a ratio in (0, 1]"),
        ("--max-flops", "0", "max_flops must be a ratio in (0, 1]"),
        ("--max-flops", "40", "write `40%` or `40 GFLOPs`"),
        ("--max-flops", "150%", "at most 100%"),
        ("--max-flops", "1 GMACs", "one MAC is two FLOPs: write `2 GFLOPs`"),
        ("--max-flops", "", "max_flops must be"),
        ("--max-latency", "0", "a positive number of milliseconds"),
        ("--max-latency", "8 kg", "max_latency must be"),
        ("--max-latency", "50%", "max_latency must be a time"),
        ("--cost", "foo", "--cost must be one of flops, latency, but got 'foo'"),
    ],
)
def test_a_limit_that_cannot_be_read(
    option: str, value: str, said: str, searched: str, refuse: Any
) -> None:
    assert said in refuse("frontier", "--db", searched, option, value)
    if option != "--cost":
        assert said in refuse("emit", "--db", searched, option, value)


@pytest.mark.parametrize("name", ["x.gif", "x", "x.PDF"])
def test_a_plot_of_another_kind(name: str, searched: str, tmp_path: Path, refuse: Any) -> None:
    said = refuse("plot", "--db", searched, "--out", tmp_path / name)
    assert "must be written to a .png or .html file" in said


def test_a_plot_to_nowhere(searched: str, tmp_path: Path, refuse: Any) -> None:
    said = refuse("plot", "--db", searched, "--out", tmp_path / "no" / "x.png")
    assert said == f"{tmp_path}/no/x.png: No such file or directory"
    (tmp_path / "folder.html").mkdir()
    refuse("plot", "--db", searched, "--out", tmp_path / "folder.html")


def test_init_that_would_replace_or_does_not_know(tmp_path: Path, refuse: Any) -> None:
    assert refuse("init", tmp_path / "s.yaml", "--template", "foo") == (
        "a template must be one of starter, demo, hub, but got 'foo'"
    )
    (tmp_path / "s.yaml").write_text("mine")
    assert "is there already" in refuse("init", tmp_path / "s.yaml")
    assert (tmp_path / "s.yaml").read_text() == "mine"
    assert "must end in .yaml" in refuse("init", tmp_path / "s.txt")
    refuse("init", "/proc/s.yaml")


def test_what_cannot_be_verified(finished: Any, tmp_path: Path, refuse: Any) -> None:
    assert "must be a checkpoint that trimtab wrote" in refuse("verify", tmp_path)
    assert "no such file; --on must name a labelled file" in refuse(
        "verify", finished.checkpoint, "--on", tmp_path / "none.tsv"
    )
    (tmp_path / "bare.tsv").write_text("text\nthe kettle\n")
    assert "label" in refuse("verify", finished.checkpoint, "--on", tmp_path / "bare.tsv")


# Exit codes of what a run ends with


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StudyChangedError("a", ["model"]), 2),
        (NothingFinishedError("no trial gave a result"), 4),
        (InterruptedStudyError("stopped; the same command continues"), 130),
        (PermissionError(13, "Permission denied", "/root/x"), 2),
    ],
)
def test_errors_have_their_codes(
    error: Exception, code: int, searched: str, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(error, monkeypatch)
    refuse("status", "--db", searched, code=code)


def test_a_failed_job_says_its_first_line(
    searched: str, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(JobError("fine-tuning failed (error): boom\nTraceback (most …\n  File"), monkeypatch)
    ran = command("status", "--db", searched)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "fine-tuning failed (error): boom",
        "set TRIMTAB_DEBUG=1 to see where it came from",
    ]


def test_an_internal_error_is_two_lines(
    searched: str, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(ZeroDivisionError("division by zero"), monkeypatch)
    ran = command("status", "--db", searched)
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "internal error: ZeroDivisionError: division by zero",
        "set TRIMTAB_DEBUG=1 to see where it came from",
    ]
    monkeypatch.setenv("TRIMTAB_DEBUG", "1")
    assert "Traceback (most recent call last)" in command("status", "--db", searched).err


def test_an_interrupt_keeps_what_was_measured(
    searched: str, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(KeyboardInterrupt(), monkeypatch)
    said = refuse("status", "--db", searched, code=130)
    assert "the same command goes on from there" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_interrupt(
    number: int, searched: str, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimtab.study import Study

    monkeypatch.setattr(Study, "status", lambda self: os.kill(os.getpid(), number))
    refuse("status", "--db", searched, code=130)


def _raise(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    from trimtab.study import Study

    def status(self: Study) -> None:
        raise error

    monkeypatch.setattr(Study, "status", status)


def test_no_arguments_show_the_help(command: Any) -> None:
    ran = command()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == command("--help").out
