"""The pictures of `trimtab plot` beside the frontier, and running a trial again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trimtab_storage import Store
from trimtab_strategies import registry


def test_over_time(searched: str, command: Callable[..., Any], tmp_path: Path) -> None:
    for suffix in ("png", "html"):
        out = tmp_path / f"a.{suffix}"
        ran = command("plot", "--over-time", "--out", out, "--db", searched)
        assert (ran.code, ran.out, ran.err) == (0, f"wrote {out}\n", "")
        assert out.stat().st_size > 10_000


def test_over_time_tells_the_numbers_as_json(
    searched: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    said = json.loads(command("plot", "--over-time", "--out", out, "--db", searched, "--json").out)
    status = json.loads(command("status", "--db", searched, "--json").out)
    assert list(said) == ["written", "over_time"]
    assert [one["trial"] for one in said["over_time"]] == [0, 1, 2]
    volumes = [one["hypervolume"] for one in said["over_time"]]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(status["hypervolume"])


def test_choices_need_trials(searched: str, command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    ran = command("plot", "--choices", "--out", out, "--db", searched)
    assert (ran.code, ran.out) == (2, "")
    # Its trials' points are those of other recipes, as if none had given one.
    assert ran.err.startswith("which choice mattered shows from 10 complete trials on")
    assert not out.exists()


def test_each_picture_has_a_name_of_its_own(
    searched: str, command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("plot", "--db", searched).out == "wrote frontier.png\n"
    assert command("plot", "--over-time", "--db", searched).out == "wrote over-time.png\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--over-time", "--choices"], "two pictures"),
        (["--over-time", "--cost", "latency"], "in FLOPs only: leave out --cost latency"),
        (["--choices", "--cost", "memory"], "in FLOPs only: leave out --cost memory"),
        (["--over-time", "--out", "a.pdf"], "must be written to a .png or .html file"),
    ],
)
def test_wrong_questions_are_answered(
    searched: str, command: Callable[..., Any], options: list[str], said: str
) -> None:
    ran = command("plot", *options, "--db", searched)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_over_time_needs_a_trial(
    add_study: Callable[..., str], command: Callable[..., Any], tmp_path: Path
) -> None:
    db = add_study("new")
    ran = command("plot", "--over-time", "--out", tmp_path / "a.png", "--db", db)
    assert (ran.code, ran.err) == (4, "no trial of study 'new' has ended yet\n")


# Replays


def test_failed_trials_come_with_the_command_that_runs_them_again(
    searched: str, command: Callable[..., Any]
) -> None:
    lines = command("trials", "--failed", "--db", searched).out.splitlines()
    assert lines[-2] == "to run one again here and see where it fails:"
    assert lines[-1] == f"  trimtab trials reviews --replay 2 --db {searched}"
    assert "--replay" not in command("trials", "--db", searched).out


def test_the_command_has_no_password_in_it() -> None:
    from trimtab.cli._replay import replay_command

    assert replay_command("a b", 3, "sqlite:///trimtab.db") == "trimtab trials 'a b' --replay 3"
    secret = "postgresql://me:secret@host/db"
    assert replay_command("reviews", 3, secret) == "trimtab trials reviews --replay 3"


def test_the_command_names_every_database_but_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trimtab.cli._replay import replay_command

    usual = f"sqlite:///{tmp_path}/trimtab.db"
    assert replay_command("a", 3, usual) == f"trimtab trials a --replay 3 --db {usual}"
    monkeypatch.chdir(tmp_path)
    assert replay_command("a", 3, usual) == "trimtab trials a --replay 3"
    assert replay_command("a", 3, "sqlite:///b c.db").endswith(" --db 'sqlite:///b c.db'")


@pytest.fixture
def last(finished_copy: Any, one_thread: None) -> Callable[[], Any]:
    """Gives the last trial of a real study."""

    def read() -> Any:
        with Store.open(finished_copy.db) as store:
            return store.trials(store.studies()[0].id)[-1]

    return read


def test_a_trial_that_passes(
    finished_copy: Any, command: Callable[..., Any], last: Callable[[], Any]
) -> None:
    before = last()
    ran = command("trials", "--replay", before.number, "--db", finished_copy.db)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"trial {before.number} passes here: accuracy 0.")
    assert "% FLOPs, the " in ran.out and ran.err.startswith("reading data and model\n")
    assert last() == before


def test_a_trial_that_fails_again(
    finished_copy: Any,
    command: Callable[..., Any],
    last: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def apply(*_: Any, **__: Any) -> Any:
        raise RuntimeError("singular \x1b[31mmatrix")

    trial = last()
    strategy = type(registry.get(trial.recipe[-1]["strategy"]))
    monkeypatch.setattr(strategy, "apply", apply)
    arguments = ["trials", "--replay", trial.number, "--db", finished_copy.db]
    ran = command(*arguments)
    assert ran.code == 1
    assert ran.out.startswith("Traceback (most recent call last):\n")
    end = f"trial {trial.number} fails here: error: RuntimeError: singular [31mmatrix\n"
    assert ran.out.endswith(end)
    said = json.loads(command(*arguments, "--json").out)
    assert (said["trial"], said["passes"], said["best"]) == (trial.number, False, None)
    assert said["reason"].startswith("error: RuntimeError") and "Traceback" in said["detail"]


def test_a_trial_that_is_not_there(finished_copy: Any, command: Callable[..., Any]) -> None:
    ran = command("trials", "starter", "--replay", "99", "--db", finished_copy.db)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("study 'starter' has no trial 99: its trials are 0 to ")
