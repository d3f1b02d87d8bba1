"""Files that are not there, or not what they should be; each error at its line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trimtab.spec import Spec, check_files


def _messages(path: Path) -> list[str]:
    return [str(error) for error in check_files(Spec.load(path))]


def _only(path: Path) -> str:
    messages = _messages(path)
    assert len(messages) == 1, messages
    return messages[0]


def test_all_there(write_spec: Any) -> None:
    assert _messages(write_spec()) == []


def test_error_stands_at_the_line_of_its_value(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "dev.tsv").unlink()
    path, shown = write_spec(), _cut(str(spec_folder / "data" / "dev.tsv"))
    line = path.read_text().split("\n").index('  "validation": "data/dev.tsv",') + 1
    assert _only(path) == (
        f"{path}:{line}:17: `validation` must be a file, but `{shown}` is not there\n"
        '    "validation": "data/dev.tsv",\n'
        "                  ^"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 120 else "…" + text[-119:]


def test_missing_model_folder(write_spec: Any) -> None:
    assert "`model` must be a folder, but" in _only(write_spec(model="./none"))


def test_model_that_is_a_file(write_spec: Any) -> None:
    assert "is a file" in _only(write_spec(model="data/train.tsv"))


def test_model_without_config(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "bert" / "config.json").unlink()
    assert "with a config.json" in _only(write_spec())


def test_model_without_tokenizer(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "bert" / "tokenizer.json").unlink()
    assert "with its tokenizer" in _only(write_spec())


def test_model_without_weights(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "bert" / "model.safetensors").unlink()
    assert "with .safetensors weights" in _only(write_spec())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickled_weights_are_refused_with_the_reason(
    spec_folder: Path, write_spec: Any, name: str
) -> None:
    (spec_folder / "bert" / "model.safetensors").rename(spec_folder / "bert" / name)
    message = _only(write_spec())
    assert f"has only `{name}`, and loading such a file can run code" in message


def test_package_that_is_not_installed(write_spec: Any) -> None:
    assert "`no_such_package` is not installed" in _only(
        write_spec(model="package:no_such_package/model")
    )


def test_misspelt_column_is_one_error(write_spec: Any) -> None:
    message = _only(write_spec(task__text=["sentense"]))
    assert "`text[0]` must be a column of `train`, which has `sentence`, `label`" in message
    assert "did you mean `sentence`?" in message


def test_column_that_only_validation_lacks(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "dev.tsv").write_text("sentence\tklass\n")
    assert "`label` must be a column of `validation`" in _only(write_spec())


def test_tsv_has_no_quoting_and_csv_has(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "a.csv").write_text('"the ""text"", all",label\r\n"x",1\r\n')
    (spec_folder / "data" / "b.tsv").write_text('the "text", all\tlabel\nx\t1\n')
    path = write_spec(
        task__train="data/a.csv", task__validation="data/b.tsv", task__text=['the "text", all']
    )
    assert _messages(path) == []


def test_jsonl_columns(spec_folder: Path, write_spec: Any) -> None:
    rows = [{"sentence": "x", "label": 1}] * 3
    text = "\n" + "\n".join(json.dumps(row) for row in rows) + "\n"
    (spec_folder / "data" / "a.jsonl").write_text(text)
    assert _messages(write_spec(task__train="data/a.jsonl")) == []
    shutil.copy(spec_folder / "data" / "a.jsonl", spec_folder / "data" / "b.jsonl")
    changes = {"task__validation": "data/b.jsonl", "task__label": "klass"}
    assert "`label` must be a column of `train`" in _only(write_spec(**changes))


@pytest.mark.parametrize("text", ["[1, 2]\n", "{broken\n", "[" * 100_000])
def test_jsonl_without_objects(spec_folder: Path, write_spec: Any, text: str) -> None:
    (spec_folder / "data" / "a.jsonl").write_text(text)
    assert "one JSON object on each line" in _only(write_spec(task__train="data/a.jsonl"))


def test_empty_file(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "train.tsv").write_text("\n")
    assert "must have rows" in _only(write_spec())


def test_file_that_is_not_utf8(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "train.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    assert "must be text in UTF-8" in _only(write_spec())


def test_byte_order_mark_is_no_part_of_the_first_column(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "train.tsv").write_bytes(b"\xef\xbb\xbfsentence\tlabel\nx\t1\n")
    assert _messages(write_spec()) == []


def test_large_file_is_read_at_its_beginning_only(spec_folder: Path, write_spec: Any) -> None:
    row = "é" * 999 + "\t1\n"
    (spec_folder / "data" / "train.tsv").write_text("sentence\tlabel\n" + row * 2_000)
    assert _messages(write_spec()) == []


def test_unlabeled_text_that_is_not_there(spec_folder: Path, write_spec: Any) -> None:
    path, shown = write_spec(task__unlabeled="more.txt"), _cut(str(spec_folder / "more.txt"))
    line = path.read_text().split("\n").index('  "unlabeled": "more.txt"') + 1
    assert _only(path) == (
        f"{path}:{line}:16: `unlabeled` must be a file, but `{shown}` is not there\n"
        '    "unlabeled": "more.txt"\n'
        "                 ^"
    )
    (spec_folder / "more.txt").mkdir()
    assert "is not a file" in _only(path)


@pytest.mark.parametrize("name", ["more.txt", "more.TXT"])
def test_unlabeled_lines_have_no_columns(spec_folder: Path, write_spec: Any, name: str) -> None:
    path = write_spec(task__unlabeled=name)
    (spec_folder / name).write_text("one\ttext\nanother, text\n")
    assert _messages(path) == []
    (spec_folder / name).write_text("\n  \n")
    assert "`unlabeled` must have rows, but" in _only(path)
    (spec_folder / name).write_bytes(b"caf\xe9\n")
    assert "`unlabeled` must be text in UTF-8" in _only(path)


def test_unlabeled_table_has_the_text_and_needs_no_label(
    spec_folder: Path, write_spec: Any
) -> None:
    (spec_folder / "more.csv").write_text("sentence\nx\n")
    path = write_spec(task__unlabeled="more.csv")
    assert _messages(path) == []
    (spec_folder / "more.csv").write_text("label,text\n1,x\n")
    assert "`text[0]` must be a column of `unlabeled`, which has `label`, `text`" in _only(path)


def test_parquet_columns_are_not_looked_at(spec_folder: Path, write_spec: Any) -> None:
    (spec_folder / "data" / "a.parquet").write_bytes(b"PAR1")
    assert _messages(write_spec(task__train="data/a.parquet")) == []


def test_dataset_folder_must_be_there(spec_folder: Path, write_spec: Any) -> None:
    path = write_spec(task__train={"dataset": "./none", "split": "train"})
    assert "`dataset` must be a dataset's folder" in _only(path)
    (spec_folder / "none").mkdir()
    assert _messages(path) == []


def test_hub_ids_are_not_looked_at(write_spec: Any) -> None:
    path = write_spec(model="a/b", task__train={"dataset": "c/d"})
    assert check_files(Spec.load(path, allow_hub=True)) == []


def test_several_causes_are_several_errors(mapping: dict[str, Any], tmp_path: Path) -> None:
    errors = check_files(Spec.from_mapping(mapping, folder=tmp_path / "empty"))
    assert [error.key for error in errors] == ["model", "task.train", "task.validation"]
    assert str(errors[0]).startswith("model: `model` must be a folder")
