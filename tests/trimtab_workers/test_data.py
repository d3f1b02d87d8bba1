import json

import numpy as np
import pandas
import pytest

from trimtab_workers.data import load_task_data
from trimtab_workers.errors import DataError, ModelError
from trimtab_workers.sources import load_tokenizer
from trimtab_workers.task import DataSource


def test_rows_are_split_tokenised_and_labelled(toy_task, saved_models):
    data = load_task_data(toy_task(), saved_models["bert"])
    assert [len(part) for part in (data.train, data.search, data.certify)] == [160, 60, 60]
    assert data.labels.names == ("0", "1")
    assert np.bincount(data.search.labels).tolist() == [30, 30]
    assert (data.n_rows, data.truncated, data.max_length) == (280, 0, 32)
    assert sorted(data.validation_lengths) == sorted([*data.search.lengths, *data.certify.lengths])
    assert data.pad_token_id == 0
    assert data.train.token_types is None


def test_tokens_are_those_of_the_tokenizer(toy_task, saved_models, rows_of):
    for name in ("bert", "roberta", "distilbert", "electra"):
        data = load_task_data(toy_task(), saved_models[name])
        tokenizer = load_tokenizer(saved_models[name])
        for row, (text, label) in enumerate(rows_of(160, 1)):
            one = data.train.select([row])
            assert one.tokens.tolist() == tokenizer(text)["input_ids"]
            assert one.labels.tolist() == [label]


def test_every_format_gives_the_same_task(toy_task, saved_models, tmp_path, rows_of):
    tsv = load_task_data(toy_task(), saved_models["bert"])
    prints = {
        tsv.fingerprint,
        load_task_data(toy_task(suffix=".csv"), saved_models["bert"]).fingerprint,
    }
    sources = {}
    for part, rows in (("train", rows_of(160, 1)), ("validation", rows_of(120, 2))):
        frame = pandas.DataFrame(rows, columns=["text", "label"])
        frame.to_parquet(tmp_path / f"{part}.parquet")
        frame.to_json(tmp_path / f"{part}.jsonl", orient="records", lines=True)
        for suffix in ("parquet", "jsonl"):
            source = DataSource(path=str(tmp_path / f"{part}.{suffix}"))
            sources.setdefault(suffix, {})[part] = source
    for fields in sources.values():
        data = load_task_data(toy_task(**fields), saved_models["bert"])
        assert (data.search.tokens == tsv.search.tokens).all()
        prints.add(data.fingerprint)
    assert prints == {tsv.fingerprint}


def test_fingerprint_changes_with_what_matters(toy_task, saved_models, rows_of):
    first = load_task_data(toy_task(), saved_models["bert"]).fingerprint
    assert load_task_data(toy_task(metric="f1"), saved_models["bert"]).fingerprint == first
    assert load_task_data(toy_task(max_length=500), saved_models["bert"]).fingerprint != first
    assert load_task_data(toy_task(seed=1), saved_models["bert"]).fingerprint != first
    assert load_task_data(toy_task(), saved_models["roberta"]).fingerprint != first
    rows = rows_of(160, 1)
    changed = toy_task(train=[*rows[:-1], (rows[-1][0] + " film", rows[-1][1])])
    assert load_task_data(changed, saved_models["bert"]).fingerprint != first


def test_seed_moves_rows_between_the_halves_only(toy_task, saved_models):
    one, two = (load_task_data(toy_task(seed=seed), saved_models["bert"]) for seed in (0, 1))
    assert (one.train.tokens == two.train.tokens).all()
    assert one.validation_lengths == two.validation_lengths
    assert one.search.tokens.tolist() != two.search.tokens.tolist()


def test_long_text_is_cut_and_counted(toy_task, saved_models, rows_of):
    long = " ".join(["film"] * 600)
    rows = rows_of(160, 1)
    data = load_task_data(toy_task(train=[(long, 1), *rows[1:]]), saved_models["bert"])
    assert data.truncated == 1
    assert data.train.lengths[0] == 32
    assert data.train.select([0]).tokens[-1] == 3, "the closing token survives"


def test_length_stops_where_the_model_does(toy_task, saved_models, rows_of):
    rows = [(" ".join(["film"] * 600), 1), *rows_of(160, 1)]
    for name in ("bert", "roberta", "distilbert", "electra"):
        data = load_task_data(toy_task(train=rows, max_length=512), saved_models[name])
        assert data.max_length == 64
        assert data.train.lengths.max() == 64


def test_a_row_of_full_length_runs_through_roberta(toy_task, saved_models, rows_of):
    import torch

    from trimtab_workers.evaluation import predict
    from trimtab_workers.sources import load_stock_model

    rows = [(" ".join(["film"] * 600), 1), *rows_of(160, 1)]
    data = load_task_data(toy_task(train=rows, max_length=512), saved_models["roberta"])
    model = load_stock_model(saved_models["roberta"], num_labels=2)
    logits = predict(model, data.train.select([0]), pad_token_id=1, device=torch.device("cpu"))
    assert logits.shape == (1, 2)


def test_pairs_have_two_kinds_of_tokens_where_the_model_does(toy_task, saved_models, rows_of):
    def pairs(n, seed):
        return [
            (a, b, y) for (a, y), (b, _) in zip(rows_of(n, seed), rows_of(n, seed + 9), strict=True)
        ]

    header = ("first", "second", "same")
    long = (" ".join(["film"] * 40), " ".join(["plot"] * 20), 0)
    task = toy_task(train=[long, *pairs(160, 1)], validation=pairs(120, 2), header=header)
    data = load_task_data(task, saved_models["bert"])
    tokenizer = load_tokenizer(saved_models["bert"])
    first, second, _ = pairs(160, 1)[0]
    expected = tokenizer(first, second, return_token_type_ids=True)
    row = data.train.select([1])
    assert row.tokens.tolist() == expected["input_ids"]
    assert row.token_types.tolist() == expected["token_type_ids"]
    assert 0 < row.token_types.sum() < len(row.tokens)
    cut = data.train.select([0])
    assert len(cut.tokens) == len(cut.token_types) == 32
    assert set(cut.token_types.tolist()) == {0, 1}, "both texts keep a part"
    assert data.truncated == 1
    assert load_task_data(task, saved_models["electra"]).train.token_types is not None
    for name in ("roberta", "distilbert"):
        assert load_task_data(task, saved_models[name]).train.token_types is None


def test_missing_value_words_reach_the_model(toy_task, saved_models, rows_of):
    rows = [("NA", 1), *rows_of(160, 1)]
    data = load_task_data(toy_task(train=rows), saved_models["bert"])
    tokenizer = load_tokenizer(saved_models["bert"])
    assert tokenizer.decode(data.train.select([0]).tokens[1:-1]) == "na"


def test_text_labels_follow_the_models_names(toy_task, saved_models, rows_of):
    def named(n, seed):
        return [(text, ("negative", "positive")[y]) for text, y in rows_of(n, seed)]

    task = toy_task(train=named(160, 1), validation=named(120, 2))
    with_head = load_task_data(task, saved_models["bert-head"])
    assert with_head.labels.names == ("negative", "positive", "mixed")
    assert with_head.train.labels[:2].tolist() == [0, 1]
    assert load_task_data(task, saved_models["bert"]).labels.names == ("negative", "positive")


def relabel(rows, change):
    return [(text, change(label)) for text, label in rows]


@pytest.mark.parametrize(
    ("changes", "model", "message"),
    [
        ({"validation": lambda r: r[:80]}, "bert", r"dev.tsv: .*at least 50 rows, but .* only 80"),
        ({"train": lambda r: r[:1] * 50}, "bert", "train.tsv: at least two classes .* got only 0"),
        (
            {"train": lambda r: [(t, i) for i, (t, _) in enumerate(r)]},
            "bert",
            "train.tsv: at least two training rows for each class .* 160 rows of 160 classes",
        ),
        (
            {"validation": lambda r: [*r, ("the film", 2)]},
            "bert",
            r"dev.tsv: .*but 2 \(in 1 of 121 rows\) does not; it has 0, 1",
        ),
        (
            {"validation": lambda r: [*r, ("the film", "x")]},
            "bert",
            r"dev.tsv: .*but 'x' \(in 1 of 121 rows\) does not",
        ),
        ({"train": lambda r: [*r, (" ", 1)]}, "bert", "train.tsv: column 'text' .* 1 of 161"),
        ({"validation": lambda r: [*r, ("a", "")]}, "bert", "dev.tsv: column 'label' .* 1 of 121"),
        (
            {"train": lambda r: relabel(r, "ab".__getitem__)},
            "roberta-head",
            "train.tsv: the model's head has no names .* labels like 'a' cannot be matched",
        ),
        (
            {"train": lambda r: relabel(r, ("Negative", "positive").__getitem__)},
            "bert-head",
            "got 'Negative'; did you mean 'negative'",
        ),
    ],
)
def test_rows_that_do_not_fit_are_explained(
    toy_task, saved_models, rows_of, changes, model, message
):
    rows = {"train": rows_of(160, 1), "validation": rows_of(120, 2)}
    rows |= {part: change(rows[part]) for part, change in changes.items()}
    with pytest.raises(DataError, match=message):
        load_task_data(toy_task(**rows), saved_models[model])


def test_column_that_is_not_there_is_named(toy_task, saved_models):
    with pytest.raises(DataError, match="no column 'sentence', there are 'text', 'label'"):
        load_task_data(toy_task(text=("sentence",)), saved_models["bert"])
    with pytest.raises(DataError, match="text must name one column or two, got"):
        load_task_data(toy_task(text=()), saved_models["bert"])


def test_length_must_leave_room_for_text(toy_task, saved_models):
    with pytest.raises(DataError, match="2 special tokens, so be at least 3, got 2"):
        load_task_data(toy_task(max_length=2), saved_models["bert"])
    assert load_task_data(toy_task(max_length=3), saved_models["bert"]).max_length == 3


def test_foreign_text_is_noticed(toy_task, saved_models):
    def foreign(n):
        return [(f"zzz qqq w{i}", i % 2) for i in range(n)]

    task = toy_task(train=foreign(160), validation=foreign(120))
    with pytest.raises(
        ModelError, match=r"tokenizer must know the text, but \d+ of \d+ tokens are"
    ):
        load_task_data(task, saved_models["bert"])


def test_tokenizer_of_another_model_is_noticed(toy_task, make_model, saved_models):
    folder = make_model()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((saved_models["roberta"] / name).read_bytes())
    with pytest.raises(ModelError, match=r"tokenizer must belong to the model, .* only 40; take"):
        load_task_data(toy_task(), folder)


def test_jsonl_dates_are_not_taken_for_text(toy_task, saved_models, tmp_path):
    path = tmp_path / "dates.jsonl"
    path.write_text("\n".join(json.dumps({"text": "2020-01-01", "label": i % 2}) for i in range(9)))
    with pytest.raises(DataError, match="must hold text, but row 1 holds datetime"):
        load_task_data(toy_task(train=DataSource(path=str(path))), saved_models["bert"])
