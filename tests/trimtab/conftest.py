"""One small study, run once for all who only read it, and ways to run commands on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trimtab.cli import run_command
from trimtab.starter import write_template

TRAIN_ROWS, VALIDATION_ROWS = 480, 240
EDITS = {
    r"epochs: 15, lr: 2e-3, batch_size: 32": "epochs: 10, lr: 2e-3, batch_size: 16",
    r"calibration: \[256, 512\]": "calibration: [256]",
    r"\n    - (early_exit|acc|ltp.*)": "",
    r"trials: 12": "trials: 2",
}
FAMILIES: dict[str, dict[str, Any]] = {
    "distilbert": {
        "dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 256,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    },
    "electra": {
        "embedding_size": 32,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}


@dataclass(frozen=True)
class Workspace:
    """A folder with a spec and, once it has been run, its database and checkpoint."""

    folder: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.yaml"

    @property
    def db(self) -> str:
        return f"sqlite:///{self.folder / 'trimtab.db'}"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "runs" / "starter" / "checkpoint"

    def edit(self, edits: dict[str, str]) -> None:
        """Replaces patterns in the spec; each must be there."""
        text = self.spec.read_text()
        for pattern, new in edits.items():
            text, count = re.subn(pattern, new, text)
            assert count, f"the spec has nothing like {pattern}"
        self.spec.write_text(text)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def make_workspace(folder: Path) -> Workspace:
    """Writes the starter's spec and files, cut down to what runs in seconds."""
    made = Workspace(folder)
    write_template("starter", made.spec)
    made.edit(EDITS)
    for name, count in (("train", TRAIN_ROWS), ("dev", VALIDATION_ROWS)):
        file = folder / "starter" / f"{name}.tsv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[: count + 1]))
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A small study that has not been run."""
    return make_workspace(tmp_path)


@pytest.fixture(scope="session")
def workspace_in() -> Callable[[Path], Workspace]:
    """Writes such a study into any folder."""
    return make_workspace


def make_family(kind: str, folder: Path) -> None:
    """Puts a bare encoder of another family beside the tokenizer of the starter's model."""
    import torch
    from transformers import AutoConfig, AutoModel

    words = len((folder / "vocab.txt").read_text().splitlines())
    shared = {"vocab_size": words, "max_position_embeddings": 64, "initializer_range": 0.05}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **shared, **FAMILIES[kind])
        AutoModel.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small finished study, named `starter`. Only to be read: see `finished_copy`."""
    made = make_workspace(tmp_path_factory.mktemp("finished"))
    _run(made)
    return made


@pytest.fixture(scope="session")
def finished_families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """The same study with encoders of other families. Only to be read."""
    import trimtab
    from trimtab.emission import _emit

    made = {kind: make_workspace(tmp_path_factory.mktemp(kind)) for kind in FAMILIES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_emit, "verify_in_fresh_process", trimtab.verify)
        for kind, workspace in made.items():
            make_family(kind, workspace.folder / "starter" / "tiny-bert")
            workspace.edit({"trials: 2": "trials: 1"})
            _run(workspace)
    return made


def _run(made: Workspace) -> None:
    import torch

    import trimtab

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        # Several threads would mostly wait for each other in a model this small.
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        trimtab.run(trimtab.Spec.load(made.spec), db=made.db)
    torch.set_num_threads(threads)


@pytest.fixture
def finished_copy(finished: Workspace, tmp_path: Path) -> Workspace:
    """The finished study, to be changed at will; its spec names the first one's data and model."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    copy = Workspace(folder)
    copy.edit({r": starter/(?=t|d)": f": {finished.folder}/starter/"})
    return copy


@pytest.fixture
def checkpoint(finished: Workspace, tmp_path: Path) -> Path:
    """A checkpoint to be changed at will."""
    return Path(shutil.copytree(finished.checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def verify_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets emissions verify in this process, which takes a moment where a fresh one takes long."""
    import trimtab
    from trimtab.emission import _emit

    monkeypatch.setattr(_emit, "verify_in_fresh_process", trimtab.verify)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads would mostly wait for each other in models this small."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ran]]:
    """Runs a command in this process: ``command("status", "--json")``."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Ran]:
    """Runs a command in a process of its own, without a terminal."""

    def run(*arguments: object, cwd: Path = tmp_path, **environment: str) -> Ran:
        return run_process(["-m", "trimtab", *map(str, arguments)], cwd, environment)

    return run


@pytest.fixture(scope="session")
def python() -> Callable[..., Ran]:
    """Runs Python code in a fresh process: ``python(code, *arguments, NAME="value")``."""

    def run(code: str, *arguments: object, cwd: Path | None = None, **environment: str) -> Ran:
        return run_process(["-c", code, *map(str, arguments)], cwd, environment)

    return run


def run_process(arguments: Sequence[str], cwd: Path | None, environment: dict[str, str]) -> Ran:
    plain = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TRIMTAB_DEBUG")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**plain, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
