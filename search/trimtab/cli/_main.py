"""Running a command: every error becomes clear lines on stderr and a documented exit code.

0 ok · 1 internal · 2 usage or spec · 3 finished, but nothing meets the limits · 4 nothing finished
· 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

from trimtab.cli._console import put
from trimtab.cli._signals import obey_signals, wait_for_the_end

DEBUG = "TRIMTAB_DEBUG"
INTERNAL, USAGE, INTERRUPTED = 1, 2, 130


def run_command(arguments: Sequence[str]) -> int:
    """Runs ``trimtab ARGUMENTS`` and gives the exit code; without any it shows the help."""
    import typer

    from trimtab.cli._app import app

    # The base of all that can be wrong with arguments; typer gives it no public name.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    obey_signals(_say_patience)
    _print_anywhere()
    try:
        code = _invoke(typer.main.get_command(app), list(arguments) or ["--help"])
    except typer.Exit as ended:
        return int(ended.exit_code)
    except usage_error as error:
        return _explain_usage(error)
    except KeyboardInterrupt:
        wait_for_the_end(_say_patience)
        _say("stopped; what was measured is kept, and the same command goes on from there")
        return INTERRUPTED
    except Exception as error:
        return _explain(error)
    return code if isinstance(code, int) else 0


def _invoke(command: Any, arguments: list[str]) -> Any:
    # Not `app()`, which has exit codes of its own for interrupts and for readers that left.
    with command.make_context("trimtab", arguments) as context:
        return command.invoke(context)


def _print_anywhere() -> None:
    """Lets a terminal without Unicode show something else instead of failing."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _say_patience() -> None:
    _say("stopping already; saving what was measured takes a few seconds")


def _explain_usage(error: Any) -> int:
    command = "trimtab" if error.ctx is None else error.ctx.command_path
    _say(f"{error.format_message()} (see `{command} --help`)")
    return USAGE


def _explain(error: Exception) -> int:
    code, text = _code_of(error), _text_of(error)
    first, _, details = text.partition("\n")
    if os.environ.get(DEBUG):
        _say(traceback.format_exc().rstrip())
    elif code != INTERNAL or (_is_meant_for_users(error) and not details):
        _say(text)
    else:
        # What follows the first line of a failed job is its worker's traceback.
        _say(first if _is_meant_for_users(error) else f"internal error: {first}")
        _say(f"set {DEBUG}=1 to see where it came from")
    return code


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if not _is_meant_for_users(error):
        return f"{type(error).__name__}: {error}"
    return _with_process(error) or str(error)


def _with_process(error: Exception) -> str | None:
    """Names the process that holds a study as people do; None where an error is not about one."""
    from trimtab._owners import owner_process
    from trimtab_storage import LeaseHeldError

    known = owner_process(error.owner) if isinstance(error, LeaseHeldError) else None
    if not isinstance(error, LeaseHeldError) or known is None:
        return None
    host, number = known
    return str(error).replace(error.owner, f"process {number} on {host}")


def _code_of(error: Exception) -> int:
    from trimtab.errors import TrimtabError
    from trimtab_storage import LeaseHeldError, SchemaError, StorageError

    if isinstance(error, TrimtabError):
        return error.exit_code
    # The plain storage error is about the URL that was given, or the file that it names.
    is_about_url = type(error) is StorageError or isinstance(error, SchemaError | LeaseHeldError)
    return USAGE if is_about_url or isinstance(error, _wrong_inputs()) else INTERNAL


def _is_meant_for_users(error: Exception) -> bool:
    from trimtab.errors import TrimtabError
    from trimtab_storage import StorageError
    from trimtab_workers.executors import ExecutorError

    ours: tuple[type[Exception], ...] = (
        TrimtabError,
        StorageError,
        ExecutorError,
        OSError,
        *_wrong_inputs(),
    )
    return isinstance(error, ours)


def _wrong_inputs() -> tuple[type[Exception], ...]:
    from trimtab.spec import SpecErrors, UnitError
    from trimtab.starter import StarterError
    from trimtab_workers.errors import WorkerInputError

    paths = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
    return (SpecErrors, UnitError, StarterError, WorkerInputError, *paths)


def _say(text: str) -> None:
    put(f"{text}\n", sys.stderr)
