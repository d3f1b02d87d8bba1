"""The command line: thin commands over the Python face, data to stdout, progress to stderr."""

from ._main import run_command

__all__ = ["run_command"]
