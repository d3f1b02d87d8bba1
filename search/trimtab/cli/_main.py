"""Running a command: every error becomes clear lines on stderr and a documented exit code.

0 ok · 1 internal · 2 usage or spec · 3 finished, but nothing meets the limits · 4 nothing finished
· 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

DEBUG = "TRIMTAB_DEBUG"
INTERNAL, USAGE, INTERRUPTED = 1, 2, 130


def run_command(arguments: Sequence[str]) -> int:
    """Runs ``trimtab ARGUMENTS`` and gives the exit code."""
    import click

    from trimtab.cli._app import app

    _obey_signals()
    try:
        code = app(list(arguments), standalone_mode=False)
    except click.exceptions.Exit as ended:
        return int(ended.exit_code)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        _say("stopped; what was measured is kept, and the same command goes on from there")
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return 0
    except Exception as error:
        return _explain(error)
    return code if isinstance(code, int) else 0


def _obey_signals() -> None:
    """Makes SIGTERM end a command as Ctrl-C does, once: a second signal waits for the clean-up."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _wait)
        raise KeyboardInterrupt

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)


def _wait(number: int, frame: FrameType | None) -> None:
    _say("stopping already; saving what was measured takes a few seconds")


def _explain(error: Exception) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exc()
    code = _code_of(error)
    if code == INTERNAL and not _is_meant_for_users(error):
        _say(f"internal error: {type(error).__name__}: {error}")
        _say(f"set {DEBUG}=1 to see where it came from; please report it")
    else:
        _say(str(error))
    return code


def _code_of(error: Exception) -> int:
    from trimtab.errors import TrimtabError
    from trimtab.spec import SpecErrors, UnitError
    from trimtab.starter import StarterError
    from trimtab_storage import LeaseHeldError, StorageError
    from trimtab_workers.errors import WorkerInputError

    if isinstance(error, TrimtabError):
        return error.exit_code
    usage = (SpecErrors, UnitError, StarterError, WorkerInputError, LeaseHeldError)
    if isinstance(error, usage):
        return USAGE
    if isinstance(error, StorageError):
        return USAGE if "no database" in str(error) else INTERNAL
    return INTERNAL


def _is_meant_for_users(error: Exception) -> bool:
    from trimtab.errors import TrimtabError
    from trimtab_storage import StorageError
    from trimtab_workers.executors import ExecutorError

    return isinstance(error, TrimtabError | StorageError | ExecutorError | OSError)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _close_stdout() -> None:
    """Lets a reader such as ``head`` go away without a complaint at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
