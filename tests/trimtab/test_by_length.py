"""Cost and drop by length of text: by hand on few rows, and as shown for a study that was run."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trimtab
from trimtab.by_length import COLUMNS, Dense, in_buckets
from trimtab.cli._lengths import MOST_SHOWN, _spread
from trimtab_storage import Reader
from trimtab_strategies.cost import EncoderShape, encoder_macs
from trimtab_strategies.outcomes import Pricing
from trimtab_strategies.records import Records, is_records_file, records_file

LENGTHS = (10, 20, 35, 71, 100)
LABELS = (0, 1, 1, 0, 1)
CONFIG = {
    "hidden_size": 8,
    "head_dim": 4,
    "heads_per_layer": [1, 2],
    "filters_per_layer": [5, 16],
    "exits": {"layers": [0], "kind": "linear", "read": "first", "width": 1},
}
READ = """
import sys
from trimtab.__main__ import main
sys.argv = ["trimtab", "frontier", "--by-length", "--db", sys.argv[1]]
try:
    main()
finally:
    names = {name.partition(".")[0] for name in sys.modules}
    print(*sorted(names & {"torch", "transformers", "ray", "pandas", "sklearn"}), file=sys.stderr)
"""


def sure_of(classes: tuple[int, ...]) -> Any:
    return np.where(np.eye(2)[list(classes)] == 1, 9.0, -9.0)


def recorded(told: tuple[int, ...], exits: Any, n_exits: int = 1) -> Records:
    lengths = np.array(LENGTHS)
    return Records(
        lengths=lengths,
        kept=np.repeat(lengths[:, None], 2, axis=1),
        exit_layers=tuple(range(n_exits)),
        exit_logits=exits[:, :n_exits],
        logits=sure_of(told),
        labels=np.array(LABELS),
    )


def test_by_hand() -> None:
    """Two rows of the first bucket leave after layer 0, where one of them is told wrongly."""
    at_exit = np.zeros((5, 1, 2))
    at_exit[:2, 0] = sure_of((0, 0))
    records = recorded((0, 1, 1, 1, 1), at_exit)
    shape = EncoderShape.dense(8, 2, 2, 16)
    dense = Dense(shape, recorded((0, 1, 0, 0, 1), at_exit, n_exits=0))
    short, middling, long = in_buckets(Pricing.of(CONFIG), records, {"tau": 0.5}, dense, "accuracy")
    first, whole = EncoderShape(8, 4, (1,), (5,)), EncoderShape(8, 4, (1, 2), (5, 16))
    macs = [encoder_macs(first, n) for n in LENGTHS[:2]] + [encoder_macs(whole, n) for n in (35,)]
    assert middling is None and short is not None and long is not None
    exits = 3 * 8 * 2
    expected = (sum(macs) + exits) / sum(encoder_macs(shape, n) for n in LENGTHS[:3])
    assert short.flops_ratio == pytest.approx(expected)
    assert (short.n, short.metric, short.drop) == (3, 2 / 3, 0.0)
    assert (long.n, long.metric, long.drop) == (2, 0.5, 0.5)
    (_, _, alone) = in_buckets(Pricing.of(CONFIG), records, {}, Dense(shape, None), "accuracy")
    assert alone is not None and alone.drop is None
    cost = sum(encoder_macs(whole, n) for n in LENGTHS[3:])
    # Where nobody can leave, no exit is read.
    assert alone.flops_ratio == pytest.approx(
        cost / sum(encoder_macs(shape, n) for n in LENGTHS[3:])
    )


def test_each_scale_has_a_file_of_its_own() -> None:
    from trimtab_workers.sweeping import SCALES

    names = [records_file({knob: s, "tau": 0.1}) for knob, all_ in SCALES.values() for s in all_]
    assert len(set(names)) == sum(len(scales) for _, scales in SCALES.values()) - 1
    assert records_file({}) == records_file({"delta_scale": 1, "exits": [0]})
    assert records_file({"delta_scale": 1.5}) == "records-search-delta_scale-1.5.npz"
    assert records_file({"alpha_sc": 2}) == records_file({"alpha_sc": 2.0})
    assert all(map(is_records_file, names)) and not is_records_file("model.safetensors")


def test_of_many_the_first_the_last_and_an_even_spread_are_shown() -> None:
    assert _spread(range(5)) == [0, 1, 2, 3, 4]
    shown = _spread(range(345))
    assert len(shown) == len(set(shown)) == MOST_SHOWN
    assert (shown[0], shown[-1]) == (0, 344)
    assert {b - a for a, b in zip(shown, shown[1:], strict=False)} == {18, 19}


def folders(made: Any) -> dict[str, Path]:
    """The folders of all models by key."""
    root = made.folder / "trimtab-artifacts"
    with Reader.open_reader(made.db) as reader:
        rows = reader.artifacts()
        return {row.key: root / row.path for row in rows if row.path and row.kind != "statistics"}


def open_of(made: Any) -> trimtab.Study:
    return trimtab.open_study("starter", db=made.db)


def test_every_model_has_records_and_the_checkpoint_has_none(finished: Any) -> None:
    for folder in folders(finished).values():
        assert Records.load(folder / records_file({})).lengths.size == 120
    assert not [f for f in finished.checkpoint.rglob("*") if f.suffix == ".npz"]


def test_json(finished: Any, command: Callable[..., Any]) -> None:
    ran = command("frontier", "--by-length", "--json", "--db", finished.db)
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert list(said) == ["study", "buckets", "points"]
    assert said["buckets"] == [
        {"low": 1, "high": 35, "n": 120},
        {"low": 36, "high": 70, "n": 0},
        {"low": 71, "high": None, "n": 0},
    ]
    points = open_of(finished).frontier_points()
    assert [p["id"] for p in said["points"]] == [p.id for p in points]
    for shown, point in zip(said["points"], points, strict=True):
        assert list(shown) == ["id", "recipe", "knobs", "buckets"]
        first, *empty = shown["buckets"]
        assert empty == [None, None]
        assert list(first) == ["n", "flops_ratio", "metric", "drop"]
        assert first["metric"] == pytest.approx(point.metric)
        assert first["drop"] == pytest.approx(point.drop)
        # All rows of the file are the workload, half of them decide.
        assert first["flops_ratio"] == pytest.approx(point.flops_ratio, rel=0.01)


def test_csv_and_python_say_the_same(finished: Any, command: Callable[..., Any]) -> None:
    study = open_of(finished)
    limits = ["--max-flops", "45%"]
    ran = command("frontier", "--by-length", "--csv", "--db", finished.db, *limits)
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    frame = study.by_length(max_flops="45%")
    assert list(rows[0]) == list(frame.columns) == list(COLUMNS)
    assert len(rows) == len(frame) == 3 * len(study.frontier(max_flops="45%"))
    for name in ("id", "low", "n"):
        assert [int(row[name]) for row in rows] == frame[name].tolist()
    assert [row["high"] for row in rows[:3]] == ["35", "70", ""]
    told = frame[frame.n > 0]
    assert [float(row["drop"]) for row in rows if row["n"] != "0"] == told["drop"].tolist()
    assert {row["drop"] for row in rows if row["n"] == "0"} == {""}
    assert frame[frame.n == 0]["drop"].isna().all()


def test_table(finished: Any, command: Callable[..., Any]) -> None:
    ran = command("frontier", "--by-length", "--db", finished.db)
    first, head, *lines = ran.out.splitlines()
    assert first == "starter: FLOPs as a share of the baseline's, and drop, by length in tokens"
    for heading in ("1–35 (120 rows)", "36–70 (0 rows)", "> 70 (0 rows)", "recipe"):
        assert heading in head
    last = open_of(finished).frontier_points()[-1]
    assert lines[-1].split()[:2] == [str(last.id), f"{100 * last.flops_ratio:.1f}%"]
    assert lines[-1].split()[2:8] == [f"{100 * last.drop:+.2f}", "pt", *"––––"]


def test_it_needs_neither_torch_nor_pandas(finished: Any, python: Callable[..., Any]) -> None:
    ran = python(READ, finished.db)
    assert (ran.code, ran.err.strip()) == (0, "")
    assert "(120 rows)" in ran.out


def test_another_cost_is_refused(finished: Any, command: Callable[..., Any]) -> None:
    for form in ([], ["--json"], ["--csv"]):
        ran = command("frontier", "--by-length", "--cost", "latency", "--db", finished.db, *form)
        said = "--by-length tells FLOPs and drop only: leave out --cost latency\n"
        assert (ran.code, ran.out, ran.err) == (2, "", said)


def test_a_study_that_measured_nothing_has_nothing_to_show(
    store_url: str, command: Callable[..., Any]
) -> None:
    ran = command("frontier", "--by-length", "--db", store_url)
    assert (ran.code, ran.out, ran.err) == (0, "new: nothing is measured yet\n", "")
    said = json.loads(command("frontier", "--by-length", "--json", "--db", store_url).out)
    assert said["points"] == [] and {bucket["n"] for bucket in said["buckets"]} == {None}


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    from trimtab_storage import Store

    url = f"sqlite:///{tmp_path / 'new.db'}"
    with Store.open(url) as store:
        store.create_study("new", {}, {}, {})
    return url


@pytest.fixture
def copied(finished: Any, tmp_path: Path) -> Any:
    return type(finished)(Path(shutil.copytree(finished.folder, tmp_path / "copied")))


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_points_without_sound_records_are_named_and_the_others_shown(
    how: str, copied: Any, command: Callable[..., Any]
) -> None:
    first, *others = open_of(copied).frontier_points()
    file = folders(copied)[first.artifact_key] / records_file(first.knobs)
    file.write_bytes(b"x") if how == "damaged" else file.unlink()
    ran = command("frontier", "--by-length", "--json", "--db", copied.db)
    assert [point["id"] for point in json.loads(ran.out)["points"]] == [p.id for p in others]
    assert (ran.code, ran.err) == (
        0,
        f"there are no sound records of point {first.id}: run the spec again with another --db "
        "to get them\n",
    )


@pytest.mark.parametrize("how", ["missing", "of other rows"])
def test_without_the_baselines_records_costs_are_shown_and_no_drops(
    how: str, copied: Any, command: Callable[..., Any]
) -> None:
    study = open_of(copied)
    baseline = study.row().baseline
    assert baseline is not None
    file = folders(copied)[baseline["artifact"]] / records_file({})
    kept = vars(Records.load(file))
    file.unlink()
    if how == "of other rows":
        Records(**{**kept, "labels": np.roll(kept["labels"], 1)}).save(file)
    ran = command("frontier", "--by-length", "--db", copied.db)
    assert ran.code == 0
    assert "the baseline on these rows: run the spec again with another --db" in ran.err
    made = [p for p in study.frontier_points() if p.artifact_key != baseline["artifact"]]
    lines = ran.out.splitlines()[2:]
    first_alike: dict[Any, str] = {}
    for point in made:
        first_alike.setdefault((point.flops, point.drop), str(point.id))
    assert [line.split()[0] for line in lines] == list(first_alike.values())
    assert lines[0].split()[2:7] == [*"–––––"]


def test_without_the_baseline_there_is_nothing_to_hold_costs_against(
    copied: Any, command: Callable[..., Any]
) -> None:
    baseline = open_of(copied).row().baseline
    assert baseline is not None
    shutil.rmtree(folders(copied)[baseline["artifact"]])
    ran = command("frontier", "--by-length", "--db", copied.db)
    assert (ran.code, ran.out) == (2, "")
    assert "the files of the baseline" in ran.err and ran.err.count("\n") == 1
