"""Every file of `golden/` is broken; the `.txt` beside it is what the user must read."""

from __future__ import annotations

from pathlib import Path

import pytest

from trimtab.spec import Spec, SpecErrors

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in (".yaml", ".json"))


def test_the_golden_set_is_large() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
def test_broken_spec_is_refused_with_the_golden_message(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(SpecErrors) as caught:
        Spec.load(name)
    expected = (GOLDEN / name).with_suffix(".txt").read_text(encoding="utf-8")
    assert str(caught.value) + "\n" == expected


@pytest.mark.parametrize("name", [n for n in CASES if "two" not in n or "documents" in n])
def test_one_root_cause_gives_one_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(SpecErrors) as caught:
        Spec.load(name)
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize("name", CASES)
def test_position_lies_inside_the_quoted_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    with pytest.raises(SpecErrors) as caught:
        Spec.load(name)
    lines = Path(name).read_text(encoding="utf-8").split("\n")
    for error in caught.value.errors:
        if error.line is not None and error.col is not None:
            assert error.source_line == lines[error.line - 1]
            assert 1 <= error.col <= len(lines[error.line - 1]) + 1
