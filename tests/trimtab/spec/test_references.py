"""Models and data: local, in a package, on the hub; never a URL, never outside a package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from trimtab.spec import FieldError, Spec, SpecErrors, locate_model
from trimtab.spec.references import Surroundings, is_hub_id, settle_model, settle_path


def test_relative_paths_start_at_the_spec(spec_folder: Path, write_spec: Any) -> None:
    spec = Spec.load(write_spec())
    assert spec.model == str(spec_folder / "bert")
    assert spec.task.validation.path == str(spec_folder / "data/dev.tsv")


def test_home_folder_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert settle_path("~/bert", Surroundings(Path("/x"))) == "/home/somebody/bert"
    with pytest.raises(FieldError, match="known home folder"):
        settle_path("~nobody-of-that-name/bert", Surroundings(Path("/x")))


@pytest.mark.parametrize(
    "text",
    ["http://x/y", "https://x/y", "hf://x/y", "file:///etc/passwd", "s3://b/k", "HTTP://x"]
    + ["zip::http://x", "ftp:x"],
)
@pytest.mark.parametrize("field", ["model", "task__train", "task__validation", "output"])
def test_url_is_refused(write_spec: Any, field: str, text: str) -> None:
    with pytest.raises(SpecErrors, match="not a URL") as caught:
        Spec.load(write_spec(**{field: text}), allow_hub=True)
    assert len(caught.value.errors) == 1


def test_url_is_refused_as_dataset(write_spec: Any) -> None:
    with pytest.raises(SpecErrors, match="not a URL"):
        Spec.load(write_spec(task__train={"dataset": "https://x/y"}), allow_hub=True)


@pytest.mark.parametrize("text", ["google/bert", "google/bert@0123abc", "a.b/c-d_e"])
def test_hub_id_needs_leave(write_spec: Any, text: str) -> None:
    path = write_spec(model=text)
    assert Spec.load(path, allow_hub=True).model == text
    assert Spec.load(path, allow_hub=True).allow_hub
    with pytest.raises(SpecErrors, match="pass --allow-hub"):
        Spec.load(path)


@pytest.mark.parametrize(
    "text", ["../bert", "./bert", "a/..", "a/b/c", "a", "a/b@xyz", "a/b@0123ab", "/a/b", "ä/b"]
)
def test_this_is_no_hub_id(text: str) -> None:
    assert not is_hub_id(text)


def test_local_folder_comes_before_the_hub(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "google" / "bert").mkdir(parents=True)
    spec = Spec.load(write_spec(model="google/bert"), allow_hub=True)
    assert spec.model == str(spec_folder / "google/bert")


def test_settled_references_do_not_move(write_spec: Any) -> None:
    path = write_spec(model="google/bert", task__train={"dataset": "o/d", "split": "train[:9]"})
    spec = Spec.load(path, allow_hub=True)
    assert Spec.from_mapping(spec.to_plain(), folder="/", allow_hub=True) == spec


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported."""
    root = tmp_path / "site" / "some_models"
    (root / "models" / "small").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(root.parent))
    return root


def test_package_is_located_without_importing_it(package: Path) -> None:
    text = "package:some_models/models/small"
    assert settle_model(text, Surroundings(Path("/x"))) == text
    assert locate_model(text) == package / "models/small"
    assert "some_models" not in sys.modules


@pytest.mark.parametrize(
    "text",
    ["package:", "package:a.b/c", "package:some_models/../x", "package:/etc", "package:1a/x"]
    + ["package:some_models/..", "package:some_models//x", "package:some_models/a b"],
)
def test_malformed_package_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match="IMPORT_NAME"):
        settle_model(text, Surroundings(Path("/x"), allow_hub=True))


def test_package_that_leads_outside_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "out").symlink_to(tmp_path)
    with pytest.raises(FieldError, match="must stay inside the package"):
        locate_model("package:some_models/out")


@pytest.mark.parametrize("name", ["no_such_package_at_all", "sys", "__main__", "this"])
def test_package_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(FieldError, match="not installed"):
        locate_model(f"package:{name}/model")
