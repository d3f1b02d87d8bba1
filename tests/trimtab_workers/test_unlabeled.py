"""Text without labels: how it is read, what it changes, and how a strategy gets it."""

import hashlib
import json

import pandas
import pytest
import torch

from trimtab_workers.data import load_task_data
from trimtab_workers.errors import DataError
from trimtab_workers.executors import WorkerContext
from trimtab_workers.jobs import Place
from trimtab_workers.jobs._strategy import calibration_of
from trimtab_workers.sources import load_tokenizer, tokenizer_fingerprint
from trimtab_workers.task import DataSource

TEXTS = ["the film is great", "the plot", 'a "very" great story, and very great', "film"]


@pytest.fixture
def more(tmp_path):
    """Writes a file of further text and gives it as a source."""

    def write(content, name="more.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return DataSource(path=str(path))

    return write


def lines(texts=TEXTS):
    return "\n".join(texts) + "\n"


def test_every_line_is_a_text(toy_task, saved_models, more):
    data = load_task_data(toy_task(unlabeled=more(lines())), saved_models["bert"])
    tokenizer = load_tokenizer(saved_models["bert"])
    assert len(data.unlabeled) == 4 and data.unlabeled.labels.tolist() == [0] * 4
    for row, text in enumerate(TEXTS):
        assert data.unlabeled.select([row]).tokens.tolist() == tokenizer(text)["input_ids"]
    assert (data.n_rows, len(data.train)) == (280, 160), "these are the labelled rows"


def test_blank_lines_and_line_ends_are_no_text(toy_task, saved_models, more):
    plain = load_task_data(toy_task(unlabeled=more(lines())), saved_models["bert"])
    odd = b"\xef\xbb\xbf" + "\n \r\n".join(TEXTS).replace(" \r\n", "\t\r\n\r\n").encode()
    data = load_task_data(toy_task(unlabeled=more(odd)), saved_models["bert"])
    assert data.unlabeled.tokens.tolist() == plain.unlabeled.tokens.tolist()
    assert data.fingerprint == plain.fingerprint


def test_every_format_gives_the_same(toy_task, saved_models, more, tmp_path):
    frame = pandas.DataFrame({"other": range(4), "text": TEXTS})
    frame.to_parquet(tmp_path / "more.parquet")
    sources = [
        more(lines()),
        more(lines(), "more.TXT"),
        more("n\ttext\n" + "".join(f"1\t{text}\n" for text in TEXTS), "more.tsv"),
        more(frame.to_csv(index=False), "more.csv"),
        more("\n\n".join(["text", *TEXTS]), "more.text.tsv"),
        more(frame.to_json(orient="records", lines=True), "more.jsonl"),
        DataSource(path=str(tmp_path / "more.parquet")),
    ]
    every = [load_task_data(toy_task(unlabeled=one), saved_models["bert"]) for one in sources]
    assert len({data.fingerprint for data in every}) == 1
    assert len({tuple(data.unlabeled.tokens) for data in every}) == 1


def test_it_is_cut_like_the_rest_and_not_counted_with_it(toy_task, saved_models, more):
    source = more(lines([*TEXTS, " ".join(["film"] * 600)]))
    data = load_task_data(toy_task(unlabeled=source), saved_models["bert"])
    assert data.unlabeled.lengths.max() == 32
    assert data.truncated == 0


def test_pairs_come_from_a_table(toy_task, saved_models, more, rows_of):
    rows = [(text, text, label) for text, label in rows_of(160, 1)]
    fields = {"train": rows, "validation": rows[:120], "header": ("first", "second", "same")}
    table = more("second\tfirst\n" + "great film\tthe plot\n" * 3, "more.tsv")
    data = load_task_data(toy_task(**fields, unlabeled=table), saved_models["bert"])
    expected = load_tokenizer(saved_models["bert"])("the plot", "great film")["input_ids"]
    one = data.unlabeled.select([2])
    assert one.tokens.tolist() == expected
    assert one.token_types.tolist() == [0, 0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="more.txt: text in two columns must come from a table"):
        load_task_data(toy_task(**fields, unlabeled=more(lines())), saved_models["bert"])


def test_fingerprint_covers_it_only_where_it_is_given(toy_task, saved_models, more):
    def fingerprint(**changes):
        return load_task_data(toy_task(**changes), saved_models["bert"]).fingerprint

    without = fingerprint()
    some, others = more(lines()), more(lines(TEXTS[1:]), "others.txt")
    prints = {without, fingerprint(unlabeled=some), fingerprint(unlabeled=others)}
    assert len(prints) == 3
    assert fingerprint(unlabeled=more(lines(), "again.txt")) in prints


def test_fingerprint_without_it_is_what_it_always_was(toy_task, saved_models, rows_of):
    """Artifacts of earlier versions are found by it."""
    folder = saved_models["bert"]
    facts = [["text"], "label", 0, 32, ["0", "1"], tokenizer_fingerprint(folder)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for rows in (rows_of(160, 1), rows_of(120, 2)):
        texts, labels = zip(*rows, strict=True)
        digest.update(json.dumps([[list(texts)], [str(label) for label in labels]]).encode())
    assert load_task_data(toy_task(), folder).fingerprint == digest.hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more.txt", "", "at least one line of text is needed, but there is none"),
        ("more.txt", "\n \n\t\n", "at least one line of text is needed, but there is none"),
        ("more.txt", b"ok\ncaf\xe9\n", "the file must be UTF-8, but line 2 is not"),
        ("more.tsv", "", "must have rows, but it is empty"),
        ("more.tsv", "label\tTexts\n1\tx\n", "no column 'text', there are .*mean 'Texts'"),
        ("more.csv", "n,text\n1,x\n2,\n", "'text' must hold text in every row, but 1 of 2"),
        ("more.jsonl", '{"text": 3}\n', "'text' must hold text, but row 1 holds int 3"),
    ],
)
def test_what_is_wrong_is_said(toy_task, saved_models, more, name, content, message):
    source = more(content, name)
    with pytest.raises(DataError, match=message) as caught:
        load_task_data(toy_task(unlabeled=source), saved_models["bert"])
    assert str(source) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_is_named(toy_task, saved_models, tmp_path):
    source = DataSource(path=str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="none.txt: there is no such file"):
        load_task_data(toy_task(unlabeled=source), saved_models["bert"])


class Model:
    """As much of a model as batches are made for."""

    device = torch.device("cpu")

    class config:  # noqa: N801
        pad_token_id = 0


def calibration(task, folder):
    context = WorkerContext("cpu", lambda stage, done, total: None)
    return calibration_of(Place(task, str(folder), None), context, Model())


def rows_in(batches):
    return {tuple(row[row != 0].tolist()) for batch in batches for row in batch["input_ids"]}


def test_a_strategy_gets_it_in_one_seeded_order(toy_task, saved_models, more, rows_of):
    texts = [f"{text} {text}" for text, _ in rows_of(50, 7)]
    task = toy_task(unlabeled=more(lines(texts)))
    given = calibration(task, saved_models["bert"])
    assert (given.n_rows, given.n_unlabeled) == (160, 50)
    batches = given.unlabeled(50, 8)
    assert sum(len(batch["input_ids"]) for batch in batches) == 50
    assert all(set(batch["labels"].tolist()) == {0} for batch in batches)
    widths = [batch["input_ids"].shape[1] for batch in batches]
    assert widths in (sorted(widths), sorted(widths, reverse=True)), "batches are by length"
    few = rows_in(given.unlabeled(20, 8))
    assert few < rows_in(given.unlabeled(40, 8)), "fewer rows are the first of more"
    assert few == rows_in(calibration(task, saved_models["bert"]).unlabeled(20, 8))
    assert few != rows_in(load_first(texts, saved_models["bert"])), "the order is not the file's"
    assert not few & rows_in(given.unlabeled(40, 8, start=20))
    assert not few & rows_in(given.batches(160, 8))


def load_first(texts, folder):
    tokenizer = load_tokenizer(folder)
    return [{"input_ids": torch.tensor([tokenizer(text)["input_ids"]])} for text in texts[:20]]


def test_without_it_a_strategy_gets_none(toy_task, saved_models):
    given = calibration(toy_task(), saved_models["bert"])
    assert (given.n_unlabeled, given.unlabeled) == (0, None)
