"""A folder with everything that a spec names, and the spec's plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def spec_folder(tmp_path: Path) -> Path:
    model = tmp_path / "bert"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (model / name).write_text("{}")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.tsv").write_text("sentence\tlabel\ngood\t1\n")
    (data / "dev.tsv").write_text("sentence\tlabel\nbad\t0\n")
    return tmp_path


@pytest.fixture
def mapping() -> dict[str, Any]:
    return {
        "name": "reviews",
        "model": "./bert",
        "task": {
            "train": "data/train.tsv",
            "validation": "data/dev.tsv",
            "text": ["sentence"],
            "label": "label",
        },
        "budget": {"flops": "40%"},
    }


@pytest.fixture
def write_spec(spec_folder: Path, mapping: dict[str, Any]) -> Any:
    """Writes the spec as one value a line, with changes by dotted name; None removes."""

    def write(**changes: Any) -> Path:
        for name, value in changes.items():
            *sections, key = name.split("__")
            target = mapping
            for section in sections:
                target = target.setdefault(section, {})
            target[key] = value
        path = spec_folder / "spec.json"
        path.write_text(json.dumps(mapping, indent=1))
        return path

    return write
