import dataclasses

import pytest

from trimtab_workers.errors import DataError
from trimtab_workers.labels import LabelMap
from trimtab_workers.sources import ModelFacts

BARE = ModelFacts("bert", False, 2, {0: "LABEL_0", 1: "LABEL_1"}, 64, 0, 40, 2, 32, 2, 4, 64)


def headed(*names):
    return dataclasses.replace(
        BARE, has_head=True, num_labels=len(names), id2label=dict(enumerate(names))
    )


def test_without_a_head_numbers_are_sorted_as_numbers():
    labels = LabelMap.from_values([10, 2, 2, -1], BARE)
    assert labels.names == ("-1", "2", "10")
    assert labels.encode([10, -1], shown="dev").tolist() == [2, 0]
    assert labels.id2label == {0: "-1", 1: "2", 2: "10"}
    assert labels.n == 3


def test_without_a_head_text_is_sorted():
    assert LabelMap.from_values(["pos", "neg", "pos"], BARE).names == ("neg", "pos")


def test_a_head_keeps_its_own_order_for_names():
    labels = LabelMap.from_values(["pos", "neg"], headed("pos", "neg", "mixed"))
    assert labels.names == ("pos", "neg", "mixed")
    assert labels.encode(["neg", "pos"], shown="dev").tolist() == [1, 0]


def test_numbers_are_ids_of_a_head_with_other_names():
    labels = LabelMap.from_values([2, 0], headed("LABEL_0", "LABEL_1", "LABEL_2"))
    assert labels.encode([0, 2], shown="dev").tolist() == [0, 2]


def test_numbers_are_names_where_the_names_are_numbers():
    labels = LabelMap.from_values([1, 5], headed("1", "2", "3", "4", "5"))
    assert labels.encode([5, 1], shown="dev").tolist() == [4, 0]


def test_a_map_made_without_a_head_still_fits_when_the_head_is_loaded():
    made = LabelMap.from_values([7, 3, 12], BARE)
    again = LabelMap.from_values([3, 7, 12], headed(*made.names))
    assert again == made


@pytest.mark.parametrize(
    ("values", "facts", "message"),
    [
        ([1, 1], BARE, "at least two classes are needed .* got only 1"),
        ([0, 1, 2], headed("a", "b"), r"head has 2 classes \('a', 'b'\), but .* has 3 \(0, 1, 2\)"),
        ([1, 2], headed("a", "b"), "class ids .* 0 to 1, got 2; subtract 1 from all of them"),
        ([0, 7], headed("a", "b"), "class ids of the model's head, 0 to 1, got 7$"),
        (["Pos", "neg"], headed("pos", "neg"), "must be classes .* got 'Pos'; did you mean 'pos'"),
        (["x", "y"], headed("LABEL_0", "LABEL_1"), "no names .* name the classes in id2label .* 1"),
        ([0, 1], headed("a"), r"head has 1 classes \('a'\), but the training data has 2"),
    ],
)
def test_labels_that_do_not_fit_are_explained(values, facts, message):
    with pytest.raises(DataError, match=message):
        LabelMap.from_values(values, facts)


def test_unseen_labels_are_counted():
    labels = LabelMap.from_values(["a", "b"], BARE)
    with pytest.raises(
        DataError, match=r"dev: .*but 'c', 'd' \(in 3 of 4 rows\) does not; it has 'a', 'b'"
    ):
        labels.encode(["c", "a", "d", "c"], shown="dev")
