"""One trial run again: how it is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trimtab._wording import replay_command as replay_command
from trimtab.cli._console import say
from trimtab.cli._tables import duration, one_line, percent, points
from trimtab.study import Study
from trimtab_storage import TrialRow

if TYPE_CHECKING:
    from trimtab.controller._replay import Replay


def show_replays(study: str, rows: Sequence[TrialRow], db: str) -> None:
    """Prints the command for each of some trials."""
    say("to run one again here and see where it fails:")
    for row in rows:
        say(f"  {replay_command(study, row.number, db)}")


def replay_in(study: Study, number: int) -> Replay:
    """Runs a trial again in this process, with progress on stderr."""
    from trimtab.cli._live import RunReporter
    from trimtab.controller._replay import replay_trial
    from trimtab_storage import Reader

    with Reader.open_reader(study.db) as reader, RunReporter() as reporter:
        return replay_trial(reader, study.row(), number, reporter, reporter.watch)


def replay_plain(study: str, replay: Replay) -> dict[str, Any]:
    """Gives what came of a trial as JSON-able values."""
    failure, best = replay.failure, replay.best
    names = ("metric", "drop", "flops", "flops_ratio", "params")
    return {
        "study": study,
        "trial": replay.trial.number,
        "passes": failure is None,
        "reason": None if failure is None else f"{failure.reason}: {failure.message}",
        "detail": None if failure is None else failure.detail,
        "best": None if best is None else {name: getattr(best, name) for name in names},
        "points": replay.n_points,
        "seconds": round(replay.seconds, 3),
    }


def show_replay(replay: Replay, metric: str) -> None:
    """Prints the whole traceback of a failure, or what a trial that passes was measured to be."""
    number, then = replay.trial.number, replay.trial.reason
    if replay.failure is not None:
        say(_printable(replay.failure.detail).rstrip())
        again = "again" if replay.trial.state == "failed" else "here"
        reason = one_line(f"{replay.failure.reason}: {replay.failure.message}")
        say(f"trial {number} fails {again}: {reason}")
        return
    assert replay.best is not None
    best, few = replay.best, replay.n_points == 1
    word = "best" if best.feasible else "closest to the limits"
    of_all = "" if few else f", the {word} of {replay.n_points} points"
    say(
        f"trial {number} passes here: {metric} {best.metric:.4f} ({points(best.drop)}) at "
        f"{percent(best.flops_ratio)} FLOPs{of_all}, in {duration(replay.seconds)}"
    )
    if then is not None:
        say(f"in the study it ended with: {one_line(then)}")


def _printable(text: str) -> str:
    """Takes out control characters, which may come from anywhere, but for the ends of lines."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
