"""Real studies in processes of their own, with a log that no kill can take back.

A plug-in that Python loads at its start (`sitecustomize`) writes down, in every process of a run,
when a job begins and ends and when the database has taken a trial's result. The product knows
nothing of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from trimtab.cli import run_command
from trimtab.starter import write_template
from trimtab_storage import Reader, SchemaError, StudyRow, TrialRow, check_invariants

PLUG_IN = """
import importlib.abc, importlib.util, json, os, sys, time

LOG, PAUSE = os.environ["FAULT_LOG"], float(os.environ["FAULT_PAUSE_S"])

def say(*words):
    line = json.dumps(words).encode() + b"\\n"
    descriptor = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line)
    os.close(descriptor)

def suffer(folder, recipe):
    # Recipes take the fates of a file in the order in which they first run.
    with open(os.path.join(folder, "fates")) as file:
        fates = file.read().split()
    for number, fate in enumerate(fates):
        try:
            with open(os.path.join(folder, f"{number}"), "x") as file:
                file.write(recipe)
        except FileExistsError:
            with open(os.path.join(folder, f"{number}")) as file:
                if file.read() != recipe:
                    continue
        say("fate", fate, recipe, time.time())
        return FATES[fate]()

def eat_memory():
    import resource
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
    try:
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

def eat_device():
    import torch
    kept = torch.ones(2**23)
    raise torch.OutOfMemoryError(f"CUDA out of memory beside {kept.nbytes} bytes")

def die():
    import ctypes, faulthandler
    faulthandler.disable()
    ctypes.string_at(0)

def hang():
    # Deaf to SIGTERM, in C, with the interpreter's lock.
    import ctypes, signal
    ctypes.CDLL(None).signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        ctypes.PyDLL(None).sleep(1000)

FATES = {"well": int, "host": eat_memory, "device": eat_device, "dies": die, "hangs": hang}

def log_jobs(module):
    def logged(kind):
        run = kind.run
        def run_logged(self, context):
            what = self.key if kind.__name__ == "StatisticsJob" else dict(self.choices)
            say("start", kind.__name__, what, os.getpid())
            time.sleep(PAUSE)
            if kind.__name__ == "LadderJob" and "FAULT_FATES" in os.environ:
                suffer(os.environ["FAULT_FATES"], json.dumps(what, sort_keys=True))
            value = run(self, context)
            time.sleep(PAUSE)
            say("end", kind.__name__, what, os.getpid())
            return value
        kind.run = run_logged
    logged(module.StatisticsJob)
    logged(module.LadderJob)

def log_results(module):
    complete = module.Store.complete_trial
    def complete_logged(self, lease, trial_id, *arguments, **named):
        ids = complete(self, lease, trial_id, *arguments, **named)
        say("ack", lease.study_id, trial_id, os.getpid())
        return ids
    module.Store.complete_trial = complete_logged

def log_session(module):
    say("up", os.getpid())
    if "FAULT_LEASE_S" in os.environ:
        module.LEASE_TTL_S = float(os.environ["FAULT_LEASE_S"])

HOOKS = {
    "trimtab_workers.jobs._strategy": log_jobs,
    "trimtab_storage.store": log_results,
    "trimtab.controller._session": log_session,
}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        hook = HOOKS.pop(name, None)
        if hook is None:
            return None
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def execute_and_hook(module):
            execute(module)
            hook(module)
        spec.loader.exec_module = execute_and_hook
        return spec

sys.meta_path.insert(0, Finder())
"""

TRAIN_ROWS, VALIDATION_ROWS = 300, 200


@dataclass(frozen=True)
class Line:
    """One line of the log: what happened, to what, in which process."""

    event: str
    job: str
    what: Any
    pid: int


@dataclass
class Lab:
    """A folder with a spec, in which the same command is started again and again."""

    folder: Path
    files: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    families: set[psutil.Process] = field(default_factory=set)

    @property
    def db(self) -> str:
        return f"sqlite:///{self.folder}/trimtab.db"

    def write_spec(self, **changes: Any) -> Path:
        """Writes a spec; a change is named by its dotted place, with `__` for the dot."""
        mapping: dict[str, Any] = {
            "name": "study",
            "model": str(self.files / "tiny-bert"),
            "task": {
                "train": str(self.files / "train.tsv"),
                "validation": str(self.files / "dev.tsv"),
                "text": ["text"],
                "label": "label",
                "max_length": 48,
            },
            "finetune": {"epochs": 3, "lr": 0.002, "batch_size": 32},
            "budget": {"flops": "50%"},
            "max_drop": "60 pt",
            "search": {"strategies": ["fisher"], "trials": 8, "time": "20 min", "seed": 0},
            "workers": {"executor": "inline", "device": "cpu"},
            "output": "runs",
        }
        for name, value in changes.items():
            *sections, key = name.split("__")
            target = mapping
            for section in sections:
                target = target[section]
            target[key] = value
        path = self.folder / f"{mapping['name']}.json"
        path.write_text(json.dumps(mapping))
        return path

    def start(
        self, *, name: str = "study", pause_s: float = 0.25, lease_s: float | None = None
    ) -> subprocess.Popen[str]:
        """Starts `trimtab run` on a spec that was written."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.files / "plug-in"),
            "FAULT_LOG": str(self.folder / "log"),
            "FAULT_PAUSE_S": str(pause_s),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.files),
        }
        if lease_s is not None:
            environment["FAULT_LEASE_S"] = str(lease_s)
        command = [sys.executable, "-m", "trimtab", "run", f"{name}.json", "--quiet", "--json"]
        # To a file: helpers that outlive a killed run would keep a pipe open.
        with (self.folder / "said").open("a") as said:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, **options: Any) -> int:
        """Runs the study to its end and gives the exit code."""
        return self.start(**options).wait(180)

    def run_here(self, name: str = "study") -> int:
        """Does the same in this process, which is quicker and is not in the log."""
        import torch

        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            spec = str(self.folder / f"{name}.json")
            return run_command(["run", spec, "--db", self.db, "--quiet", "--json"])
        finally:
            torch.set_num_threads(threads)
            for each, handler in handlers.items():
                signal.signal(each, handler)

    def said(self) -> str:
        """What all runs wrote on stderr."""
        return (self.folder / "said").read_text()

    def log(self) -> list[Line]:
        path = self.folder / "log"
        lines = []
        for text in path.read_text().splitlines() if path.exists() else []:
            event, *rest = json.loads(text)
            job, what, pid = (["", None, rest[0]] if event == "up" else rest)[:3]
            lines.append(Line(event, str(job), what, int(pid)))
        return lines

    def wait_for(self, happened: Callable[[list[Line]], bool], after: int = 0) -> None:
        """Waits until what the log says after a line is enough."""
        end = time.monotonic() + 90
        while not happened(self.log()[after:]):
            assert time.monotonic() < end, f"waited 90 s in vain; said: {self.said()[-2000:]}"
            time.sleep(0.01)

    def family(self, process: subprocess.Popen[str]) -> list[psutil.Process]:
        """The processes below a run, now; they are watched until the end of the test."""
        found = psutil.Process(process.pid).children(recursive=True)
        self.families.update(found)
        return found

    def study(self, name: str = "study") -> StudyRow | None:
        if not (self.folder / "trimtab.db").exists():
            return None
        with suppress(SchemaError), Reader.open_reader(self.db) as reader:
            return reader.study(name)
        return None  # the file was made a moment ago

    def trials(self, name: str = "study") -> list[TrialRow]:
        study = self.study(name)
        if study is None:
            return []
        with Reader.open_reader(self.db) as reader:
            return reader.trials(study.id)

    def complete(self) -> list[TrialRow]:
        return [trial for trial in self.trials() if trial.state == "complete"]

    def artifacts(self) -> set[str]:
        with Reader.open_reader(self.db) as reader:
            return {row.key for row in reader.artifacts()}

    def problems(self, name: str = "study") -> list[str]:
        study = self.study(name)
        assert study is not None
        with Reader.open_reader(self.db) as reader:
            return check_invariants(reader, study.id)

    def contents(self) -> Any:
        """All that the database holds, but for the leases."""
        with Reader.open_reader(self.db) as reader:
            studies = [
                {**vars(row), "lease_owner": None, "lease_expires": None, "fence": 0}
                for row in reader.studies()
            ]
            rows = [(reader.trials(s["id"]), reader.points(s["id"], None)) for s in studies]
            return studies, rows, reader.artifacts()

    def leftovers(self) -> list[str]:
        """Unfinished folders of artifacts and of checkpoints."""
        places = [self.folder / "trimtab-artifacts" / "tmp", self.folder / "runs"]
        names = [path.name for place in places if place.exists() for path in place.iterdir()]
        return [name for name in names if name != "checkpoint"]


class Acknowledged:
    """What must never be done again: looked at after every kill, checked at the end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.marks: list[tuple[int, set[str], set[str]]] = []

    def note(self) -> None:
        """Notes what is finished now, and that every result that was acknowledged is there."""
        lab = self.lab
        study = lab.study()
        if study is None or not lab.log():
            return
        # In this order, for a controller that lives goes on in between.
        acks = {line.what for line in lab.log() if line.event == "ack"}
        complete = lab.complete()
        assert acks <= {trial.id for trial in complete}, "an acknowledged result is lost"
        assert study.state in ("new", "running", "interrupted") or not lab.problems()
        recipes = {name_of(trial.recipe[0]["choices"]) for trial in complete}
        self.marks.append((len(lab.log()), recipes, lab.artifacts()))

    def check(self) -> None:
        """Checks that nothing that was finished began again, and nothing was recorded twice."""
        log = self.lab.log()
        for seen, recipes, artifacts in self.marks:
            for line in log[seen:]:
                if line.event == "start" and line.job == "LadderJob":
                    assert name_of(line.what) not in recipes, "a finished trial ran again"
                elif line.event == "start":
                    assert line.what not in artifacts, "statistics were measured again"
        acks = [line.what for line in log if line.event == "ack"]
        assert len(acks) == len(set(acks)), "a result was recorded twice"


def name_of(choices: dict[str, Any]) -> str:
    return json.dumps(choices, sort_keys=True)


def write_files(folder: Path) -> Path:
    """Writes a tiny model, toy sentences and the plug-in; gives the folder that they are in."""
    write_template("starter", folder / "starter.yaml")
    for name, rows in (("train", TRAIN_ROWS), ("dev", VALIDATION_ROWS)):
        file = folder / "starter" / f"{name}.tsv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[: rows + 1]))
    (folder / "starter" / "plug-in").mkdir()
    (folder / "starter" / "plug-in" / "sitecustomize.py").write_text(PLUG_IN)
    return folder / "starter"


@pytest.fixture(scope="session")
def fault_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of all labs."""
    return write_files(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def lab(tmp_path: Path, fault_files: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, fault_files)
    yield made
    for process in made.started:
        if process.poll() is None:
            made.family(process)
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
    for member in made.families:
        if member.is_running():
            member.kill()


@pytest.fixture
def acknowledged(lab: Lab) -> Acknowledged:
    return Acknowledged(lab)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, fault_files: Path) -> Lab:
    """The study of the spec as it is, run by one worker without any interruption."""
    made = Lab(tmp_path_factory.mktemp("whole"), fault_files)
    made.write_spec()
    assert made.run_here() == 0
    assert made.problems() == []
    return made


@pytest.fixture(scope="session")
def uninterrupted(whole: Lab) -> list[Any]:
    """The recipes of that study."""
    return [trial.recipe for trial in whole.trials()]


@pytest.fixture(scope="session")
def size() -> Callable[[int, int], int]:
    """Chooses between the size for every run of the tests and that of `make chaos`."""
    is_chaos = os.environ.get("TRIMTAB_CHAOS") == "1"
    return lambda ci, full: full if is_chaos else ci
