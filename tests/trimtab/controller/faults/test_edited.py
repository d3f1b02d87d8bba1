"""Files and specs that change between two runs of the same study."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_edited_files_and_specs_are_refused(lab: Any, capsys: pytest.CaptureFixture[str]) -> None:
    own = lab.folder / "own"
    shutil.copytree(lab.files, own)
    ours = {
        "model": str(own / "tiny-bert"),
        "task__train": str(own / "train.tsv"),
        "task__validation": str(own / "dev.tsv"),
        "search__trials": 1,
    }
    lab.write_spec(**ours)
    assert lab.run_here() == 0
    before = lab.contents()

    lab.write_spec(**ours, search__seed=1, task__max_length=40)
    assert lab.run_here() == 2
    assert "search.seed, task.max_length;" in capsys.readouterr().err

    lab.write_spec(**ours)
    for name, said in (("dev.tsv", "data"), ("tiny-bert/model.safetensors", "model")):
        file = own / name
        content = file.read_bytes()
        file.write_bytes(_with_one_change(content, name))
        assert lab.run_here() == 2
        assert f"the contents of the {said} files" in capsys.readouterr().err
        file.write_bytes(content)

    assert lab.contents()[1:] == before[1:], "nothing was recorded on the way"
    lab.write_spec(**{**ours, "search__trials": 2, "max_drop": "50 pt", "output": "other"})
    assert lab.run_here() == 0
    assert [trial.state for trial in lab.trials()] == ["complete"] * 2
    assert (lab.folder / "other" / "checkpoint" / "trimtab.json").is_file()
    assert lab.problems() == []


def _with_one_change(content: bytes, name: str) -> bytes:
    if name.endswith(".tsv"):
        first, _, rest = content.partition(b"\n")
        return first + b"\n" + rest.replace(b"the ", b"a ", 1)
    return content[:-1] + bytes([content[-1] ^ 1])
