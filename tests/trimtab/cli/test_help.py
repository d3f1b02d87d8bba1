"""Every command and every option says what it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from trimtab.cli._app import EXIT_CODES, app

COMMANDS = [
    *("init", "validate", "plan", "run", "status", "trials", "frontier", "plot", "emit", "verify"),
    *("export", "backup"),
]
GROUP: Any = typer.main.get_command(app)


def options() -> Iterator[Any]:
    for name in COMMANDS:
        for parameter in GROUP.commands[name].params:
            yield pytest.param(parameter, id=f"{name} {parameter.name}")


def test_the_commands_are_these() -> None:
    assert list(GROUP.commands) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_and_has_json(name: str, command: Callable[..., Any]) -> None:
    known = GROUP.commands[name]
    assert known.help
    assert known.help.strip().endswith(".")
    assert any("--json" in parameter.opts for parameter in known.params)
    ran = command(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert known.help.strip().split()[0] in ran.out


@pytest.mark.parametrize("parameter", list(options()))
def test_an_option_says_what_it_is(parameter: Any) -> None:
    assert parameter.help
    assert parameter.help.endswith(".")


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"init", "validate", "verify", "export"}))
def test_the_database_can_be_named_everywhere(name: str) -> None:
    assert any("--db" in parameter.opts for parameter in GROUP.commands[name].params)


@pytest.mark.parametrize("name", ["frontier", "emit"])
def test_the_same_filters_everywhere(name: str) -> None:
    known = {option for parameter in GROUP.commands[name].params for option in parameter.opts}
    assert {"--max-drop", "--max-flops", "--max-latency"} <= known


def test_the_help_lists_the_exit_codes(command: Callable[..., Any]) -> None:
    said = " ".join(command("--help").out.split())
    for code in ("0 ok", "1 internal", "2 usage or spec", "4 nothing finished", "130 interrupted"):
        assert code in EXIT_CODES
        assert code in said


def test_the_database_comes_from_the_environment_too(
    searched: str, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_DB", searched)
    assert command("status").out.startswith("study      reviews\n")
