import gzip
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas
import pytest

from trimtab_workers.data import read_rows
from trimtab_workers.errors import DataError
from trimtab_workers.task import DataSource

COLUMNS = ("text", "label")


def read(path, columns=COLUMNS):
    return read_rows(DataSource(path=str(path)), columns, allow_hub=False)


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_honours_quotes_commas_and_line_breaks(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"He said ""no"", then\nleft",1\nplain,0\n')
    assert read(path) == {"text": ['He said "no", then\nleft', "plain"], "label": ["1", "0"]}


def test_csv_reads_crlf_and_byte_order_mark(tmp_path):
    path = write(tmp_path, "a.csv", "\ufefftext,label\r\nx,1\r\ny,0\r\n")
    assert read(path) == {"text": ["x", "y"], "label": ["1", "0"]}


def test_tsv_keeps_quotes_as_they_stand(tmp_path):
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"open only\t1\n"both"\t0\na, b\t0\n')
    assert read(path)["text"] == ['"open only', '"both"', "a, b"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "folder"])
def test_words_for_missing_values_stay_text(tmp_path, name):
    words = ["NA", "null", "None", "nan", "N/A", "NULL", "-inf", "#N/A"]
    sep = "\t" if name.endswith(".tsv") else ","
    content = "".join(f"{a}{sep}{b}\n" for a, b in [COLUMNS, *((w, w) for w in words)])
    if name == "folder":
        write(tmp_path, "folder/train.csv", content)
        rows = read_rows(DataSource(dataset=str(tmp_path / "folder")), COLUMNS)
    else:
        rows = read(write(tmp_path, name, content))
    assert rows == {"text": words, "label": words}


def test_leading_zeros_and_long_digits_stay_text(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n007,01\n123456789012345678901234567890,1.0\n")
    assert read(path) == {
        "text": ["007", "123456789012345678901234567890"],
        "label": ["01", "1.0"],
    }


def test_jsonl_keeps_types(tmp_path):
    rows = [{"text": "NA", "label": 1, "more": [1]}, {"text": "b", "label": 0, "more": []}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert read(path) == {"text": ["NA", "b"], "label": [1, 0]}


def test_parquet_keeps_types(tmp_path):
    path = tmp_path / "a.parquet"
    pandas.DataFrame({"text": ["NA", "b"], "label": [True, False]}).to_parquet(path)
    assert read(path) == {"text": ["NA", "b"], "label": [True, False]}


def test_field_longer_than_the_csv_modules_limit(tmp_path):
    long = "word " * 60_000
    assert read(write(tmp_path, "a.csv", f"text,label\n{long},1\n"))["text"] == [long]


def test_file_names_are_never_patterns(tmp_path):
    write(tmp_path, "a1.csv", "text,label\nwrong,1\n")
    path = write(tmp_path, "a[1]*::x.csv", "text,label\nright,1\n")
    assert read(path)["text"] == ["right"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\n", "at least one row is needed, but there is only a header"),
        ("a.csv", "", "the file must have rows, but it is empty"),
        ("a.csv", "\n\n", "must have a header line and rows, but it is empty"),
        (
            "a.csv",
            "text,label\nx,1\ny,2,3\n",
            r"as the header \(2\), but line 3 has 3; an unquoted",
        ),
        ("a.csv", "text,label\nx\n", "but line 2 has 1; an unquoted comma"),
        ("a.tsv", "text\tlabel\nx\ty\tz\n", "but line 2 has 3; a tab inside the text"),
        ("a.csv", 'text,label\n"x,1\ny,2\n', "line 3 is not well-formed .* quotes doubled"),
        ("a.csv", 'text,label\n"x"y,1\n', "line 2 is not well-formed"),
        ("a.csv", "text,text\nx,1\n", "column names must differ, but the header repeats 'text'"),
        ("a.csv", b"text,label\nok,1\ncaf\xe9,2\n", "must be UTF-8, but line 3 is not"),
        ("a.tsv", "text\tlabel\n".encode("utf-16"), "must be UTF-8, but line 1 is not"),
        ("a.csv", gzip.compress(b"text,label\nx,1\n"), "must be UTF-8, but line 1 is not"),
        ("a.jsonl", '{"text":"a","label":1}\n{"text":\n', "but line 2 is not well-formed"),
        ("a.jsonl", '{"text":"a","label":1}\n[1]\n', "but line 2 is list"),
        ("a.jsonl", '{"text":"a","label":1}\n{"text":"b","label":"x"}\n', "cannot be read .*label"),
        ("a.parquet", b"PAR1 not really", "the file cannot be read"),
        ("a.xlsx", "x", "must be one of .csv, .tsv, .jsonl, .parquet"),
        ("a.csv", "Text,label\nx,1\n", "no column 'text', there are 'Text', 'label'; did you mean"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_without_rows_are_refused(tmp_path):
    empty = tmp_path / "a.parquet"
    pandas.DataFrame({"text": [], "label": []}).to_parquet(empty)
    for path in (empty, write(tmp_path, "a.jsonl", "\n")):
        with pytest.raises(DataError, match="at least one row is needed|cannot be read"):
            read(path)


def test_missing_file_names_its_neighbour(tmp_path):
    write(tmp_path, "train.tsv", "x")
    with pytest.raises(DataError, match="no such file; did you mean 'train.tsv'?"):
        read(tmp_path / "trian.tsv")
    with pytest.raises(DataError, match="no such file .nor a folder"):
        read(tmp_path / "nowhere" / "train.tsv")


def test_local_folder_with_several_splits_needs_one(tmp_path):
    for split in ("train", "test"):
        write(tmp_path, f"d/{split}.jsonl", json.dumps({"text": split, "label": 1}))
    folder = str(tmp_path / "d")
    assert read_rows(DataSource(dataset=folder, split="test"), COLUMNS)["text"] == ["test"]
    with pytest.raises(DataError, match="say which split is meant; there are 'train', 'test'"):
        read_rows(DataSource(dataset=folder), COLUMNS)
    with pytest.raises(DataError, match="Unknown split"):
        read_rows(DataSource(dataset=folder, split="dev"), COLUMNS)


def test_tsv_in_a_local_folder_keeps_quotes_too(tmp_path):
    write(tmp_path, "d/train.tsv", 'text\tlabel\n"open\t1\nNA\t0\n')
    assert read_rows(DataSource(dataset=str(tmp_path / "d")), COLUMNS)["text"] == ['"open', "NA"]


def test_dataset_script_is_not_run(tmp_path):
    canary = tmp_path / "canary"
    write(tmp_path, "d/d.py", f"open({str(canary)!r}, 'w')\n")
    with pytest.raises(DataError, match="the folder cannot be loaded"):
        read_rows(DataSource(dataset=str(tmp_path / "d")), COLUMNS)
    assert not canary.exists()


def test_dataset_card_may_not_name_a_url(tmp_path):
    card = "---\nconfigs:\n- config_name: default\n  data_files: http://127.0.0.1:9/x.csv\n---\n"
    write(tmp_path, "d/README.md", card)
    with pytest.raises(DataError, match="its card names a URL"):
        read_rows(DataSource(dataset=str(tmp_path / "d")), COLUMNS)


def test_dataset_card_may_name_a_url_that_is_no_file(tmp_path):
    card = (
        "---\nlicense_link: https://example.org/terms\nconfigs:\n- config_name: default\n"
        "  data_files: data/rows.csv\n---\n"
    )
    write(tmp_path, "d/README.md", card)
    write(tmp_path, "d/data/rows.csv", "text,label\ngood,1\nbad,0\n")
    rows = read_rows(DataSource(dataset=str(tmp_path / "d"), split="train"), COLUMNS)
    assert len(rows["label"]) == 2


@pytest.mark.parametrize("name", ["owner/name", "owner/name@0123abc"])
def test_hub_needs_permission(name):
    with pytest.raises(DataError, match="allow it with --allow-hub"):
        read_rows(DataSource(dataset=name), COLUMNS, allow_hub=False)


@pytest.mark.parametrize("name", ["http://x/y", "a/b/c", "../x", "imdb", "hf://datasets/a/b"])
def test_only_hub_ids_reach_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="a hub id OWNER/NAME"):
        read_rows(DataSource(dataset=name), COLUMNS, allow_hub=True)


def test_local_reading_touches_no_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    read(write(tmp_path, "a.csv", "text,label\nx,1\n"))
    read(write(tmp_path, "a.jsonl", '{"text":"x","label":1}\n'))
    write(tmp_path, "d/train.csv", "text,label\nx,1\n")
    read_rows(DataSource(dataset=str(tmp_path / "d")), COLUMNS)


def test_changed_file_is_read_anew_and_nothing_stays_behind(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = write(tmp_path, "a.csv", "text,label\nold,1\n")
    stamp = path.stat()
    assert read(path)["text"] == ["old"]
    write(tmp_path, "a.csv", "text,label\nnew,1\n")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert read(path)["text"] == ["new"]
    assert list(scratch.iterdir()) == []


def test_nothing_is_printed_and_several_processes_read_at_once(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\n" + "x,1\n" * 500)
    bad = write(tmp_path, "b.jsonl", "{\n")
    code = (
        "import sys\n"
        "from trimtab_workers.data import read_rows\n"
        "from trimtab_workers.task import DataSource\n"
        f"n = len(read_rows(DataSource(path={str(path)!r}), ['text'])['text'])\n"
        f"try: read_rows(DataSource(path={str(bad)!r}), ['text'])\n"
        "except ValueError: print(n)\n"
    )

    def run(_):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    with ThreadPoolExecutor(3) as pool:
        for done in pool.map(run, range(3)):
            assert (done.stdout, done.stderr) == ("500\n", "")


def test_relative_paths_work_too(tmp_path, monkeypatch):
    write(tmp_path, "a.csv", "text,label\nx,1\n")
    monkeypatch.chdir(tmp_path)
    assert read(Path("a.csv"))["text"] == ["x"]
