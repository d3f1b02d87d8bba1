"""The commands. Each reads its options, calls the Python face, and shows what came back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli._backup import backup
from trimtab.cli._console import say
from trimtab.cli._export import export
from trimtab.cli._options import (
    DEFAULT_DB,
    Db,
    Force,
    Hub,
    Json,
    MaxDrop,
    MaxFlops,
    MaxLatency,
    Place,
    StudyName,
    find_study,
    print_json,
)

if TYPE_CHECKING:
    from trimtab.spec import Spec
    from trimtab.study import Study

EXIT_CODES = (
    "Exit codes: 0 ok, 1 internal error, 2 usage or spec, 3 finished but nothing meets the limits "
    "(the closest point is delivered), 4 nothing finished, 130 interrupted."
)
NOTHING_FEASIBLE = 3

app = typer.Typer(
    name="trimtab",
    help="Declare a budget and a largest drop; get a smaller, faster Transformer checkpoint.",
    epilog=EXIT_CODES,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from trimtab import __version__

        typer.echo(f"trimtab {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options in front of the command."""


SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, YAML or JSON.")]


@app.command()
def init(
    spec: SpecFile,
    template: Annotated[
        str, typer.Option(help="starter (runs as it is), demo (a real encoder), or hub.")
    ] = "starter",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a commented spec that runs."""
    from trimtab.starter import write_template

    written = write_template(template, spec, force=force)
    if as_json:
        print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        say(f"wrote {path}")
    hub = " --allow-hub" if template == "hub" else ""
    say(f"now: trimtab validate {spec}{hub}; trimtab run {spec}{hub}")


@app.command()
def validate(spec: SpecFile, allow_hub: Hub = False, as_json: Json = False) -> None:
    """Check a spec and the files it names; every error is shown with its line."""
    loaded = _load(spec, allow_hub)
    if as_json:
        print_json({"valid": True, "spec": loaded.to_plain()})
    else:
        say(f"{spec}: valid")


@app.command()
def plan(
    spec: SpecFile, db: Db = DEFAULT_DB, allow_hub: Hub = False, as_json: Json = False
) -> None:
    """Show what would run: costs that can be reached, trials that fit, disk, what is reused."""
    from trimtab.cli._show import show_plan
    from trimtab.plan import make_plan

    made = make_plan(_load(spec, allow_hub), db)
    if as_json:
        print_json(made.to_plain())
    else:
        show_plan(made)


@app.command()
def run(
    spec: SpecFile,
    db: Db = DEFAULT_DB,
    artifacts: Place = None,
    allow_hub: Hub = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> int:
    """Search, and write the best checkpoint; the same command again continues."""
    from trimtab.cli._live import RunReporter
    from trimtab.cli._show import run_plain, show_result
    from trimtab.cli._signals import was_stopped
    from trimtab.running import run_to_result

    loaded = _load(spec, allow_hub)
    with RunReporter(quiet=quiet) as reporter:
        result = run_to_result(
            loaded, db=db, artifacts=artifacts, reporter=reporter, stop=was_stopped
        )
    if as_json:
        print_json(run_plain(result))
    else:
        show_result(result, loaded)
    return 0 if result.choice.feasible else NOTHING_FEASIBLE


@app.command()
def status(study: StudyName = None, db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """Show how far a study has come, and its best point."""
    from trimtab.cli._show import show_status

    found = find_study(study, db).status()
    if as_json:
        print_json(found)
    else:
        show_status(found)


@app.command()
def trials(
    study: StudyName = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    replay: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            help="Run this trial again here, recording nothing: exit code 0 if it passes, else 1.",
        ),
    ] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """List every trial with its recipe, state and reason; or run one of them again."""
    from trimtab.cli._replay import show_replays
    from trimtab.cli._show import trials_plain
    from trimtab.cli._tables import show_trials

    found = find_study(study, db)
    if replay is not None:
        return _replay(found, replay, as_json)
    rows = [row for row in found.trial_rows() if not failed or row.state == "failed"]
    if as_json:
        print_json({"study": found.name, "trials": trials_plain(found, rows)})
    else:
        show_trials(found.name, rows, failed)
        if failed and rows:
            show_replays(found.name, rows, db)
    return 0


def _replay(study: Study, number: int, as_json: bool) -> int:
    from trimtab.cli._replay import replay_in, replay_plain, show_replay

    done = replay_in(study, number)
    if as_json:
        print_json(replay_plain(study.name, done))
    else:
        show_replay(done, study.row().spec["task"]["metric"])
    return 0 if done.failure is None else 1


@app.command()
def frontier(
    study: StudyName = None,
    cost: Annotated[str, typer.Option(help="flops or latency.")] = "flops",
    max_drop: MaxDrop = None,
    max_flops: MaxFlops = None,
    max_latency: MaxLatency = None,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Show FLOPs and drop for short to long texts.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Show the points that no other beats, or those of them within other limits."""
    from trimtab.cli._lengths import show_by_length
    from trimtab.cli._show import frontier_plain, print_csv, show_study_frontier

    found = find_study(study, db)
    limits = found.read_limits(max_drop, max_flops, max_latency)
    if by_length:
        show_by_length(found, limits, cost, "json" if as_json else "csv" if as_csv else "table")
    elif as_json:
        print_json(frontier_plain(found, limits, cost))
    elif as_csv:
        print_csv(found, limits, cost)
    else:
        show_study_frontier(found, limits, cost)


@app.command()
def plot(
    study: StudyName = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A .png or .html file; by default frontier.png, or as the picture."),
    ] = None,
    cost: Annotated[str, typer.Option(help="flops or latency.")] = "flops",
    over_time: Annotated[
        bool, typer.Option("--over-time", help="Draw how the hypervolume grew, trial by trial.")
    ] = False,
    choices: Annotated[
        bool, typer.Option("--choices", help="Draw which choices mattered.")
    ] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Draw the frontier with its limits and the baseline, or how the search went."""
    from trimtab.cli._pictures import draw_picture, wanted_picture

    picture = wanted_picture(over_time, choices, cost)
    file = out or Path(f"{picture}.png")
    told = draw_picture(find_study(study, db), picture, file, cost)
    if as_json:
        print_json({"written": str(file), **told})
    else:
        say(f"wrote {file}")


@app.command()
def emit(
    study: StudyName = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("checkpoint"),
    max_drop: MaxDrop = None,
    max_flops: MaxFlops = None,
    max_latency: MaxLatency = None,
    force: Force = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> int:
    """Write the checkpoint of the best point for these limits, or for the spec's."""
    from trimtab.cli._live import RunReporter
    from trimtab.cli._show import emission_plain, show_emission

    found = find_study(study, db)
    limits = found.read_limits(max_drop, max_flops, max_latency) or found.limits()
    choice = found.choose(limits)
    with RunReporter() as reporter:
        emission = found.emit_for(limits, out, force, reporter)
    choice = emission.choice or choice
    if as_json:
        print_json(emission_plain(choice, emission, limits))
    else:
        show_emission(choice, emission)
    return 0 if choice.feasible else NOTHING_FEASIBLE


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint.")],
    on: Annotated[Path | None, typer.Option(help="A labelled file to measure on.")] = None,
    as_json: Json = False,
) -> None:
    """Check a checkpoint: hashes, tensors, stored logits and cost; with a file, the metric."""
    from trimtab.cli._show import show_verified
    from trimtab.emission._verify import verify as verify_checkpoint

    found = verify_checkpoint(folder, on)
    if as_json:
        print_json(found)
    else:
        show_verified(folder, found)


app.command()(export)
app.command()(backup)


def _load(file: Path, allow_hub: bool) -> Spec:
    """Loads a spec and looks whether the files that it names are there."""
    from trimtab.spec import Spec, SpecErrors, check_files

    loaded = Spec.load(file, allow_hub=allow_hub)
    errors = check_files(loaded)
    if errors:
        raise SpecErrors(errors)
    return loaded
