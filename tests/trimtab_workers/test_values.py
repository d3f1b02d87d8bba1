import datetime

import pytest

from trimtab_workers._values import are_whole, as_classes, checked_labels, checked_text
from trimtab_workers.errors import DataError


def classes(values):
    labels = checked_labels("f.csv", "y", values)
    return as_classes(labels, whole=are_whole(labels))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "0", "10"], [1, 0, 10]),
        ([1, 0], [1, 0]),
        ([1.0, 0.0], [1, 0]),
        (["1.0", "0"], [1, 0]),
        (["-1", "1"], [-1, 1]),
        (["01", "1"], ["01", "1"]),
        (["1", "neg"], ["1", "neg"]),
        (["NA", "yes"], ["NA", "yes"]),
        (["True", "False"], ["True", "False"]),
    ],
)
def test_labels_are_one_kind_in_every_format(values, expected):
    assert classes(values) == expected


def test_validation_labels_follow_the_kind_of_training():
    assert as_classes(["1", "2"], whole=False) == ["1", "2"]
    assert as_classes(["1", "x"], whole=True) == [1, "x"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None, "b"], r"label in every row, but 1 of 3 are empty \(first: row 2, the header"),
        (["a", " ", ""], r"2 of 3 are empty \(first: row 2"),
        ([1.0, float("nan")], "1 of 2 are empty"),
        ([0.5, 1.0], r"must hold classes .* row 1 holds 0.5; only classification is built"),
        (["1", "2.5"], "row 2 holds 2.5; only classification"),
        ([True, False], "row 1 holds bool True; write 0 and 1"),
        (["a", datetime.date(2020, 1, 1)], "row 2 holds date 2020-01-01"),
    ],
)
def test_unfit_labels_are_named(values, message):
    with pytest.raises(DataError, match=message) as caught:
        classes(values)
    assert str(caught.value).startswith("f.csv: column 'y'")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None], r"text in every row, but 1 of 2 are empty \(first: row 2"),
        (["\t ", "b", ""], r"2 of 3 are empty \(first: row 1"),
        ([float("nan"), "b"], "1 of 2 are empty"),
        (["a", 5], "row 2 holds int 5; write it as a string"),
        ([datetime.datetime(2020, 1, 1)], "row 1 holds datetime"),
    ],
)
def test_unfit_text_is_named(values, message):
    with pytest.raises(DataError, match=message):
        checked_text("f.csv", "x", values)


def test_text_comes_back_unchanged():
    assert checked_text("f", "x", [" NA ", "nan"]) == [" NA ", "nan"]
