"""Labels of a test file are matched with the classes of the model, whichever of them occur."""

import pytest

from trimtab_workers.errors import DataError
from trimtab_workers.labelled import class_ids

MIXED = ("1", "2", "other")
GENERIC = ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        (["2", "1", "2"], MIXED, [1, 0, 1]),  # by name, although all are numbers
        (["other", "1"], MIXED, [2, 0]),
        (["1.0", "2.0"], MIXED, [0, 1]),
        (["1.0", "1"], ("1", "1.0"), [1, 0]),
        (["neg", "neg"], ("pos", "neg"), [1, 1]),  # one class is enough
        (["5"], ("1", "5"), [1]),
        (["2", "0", "1.0"], GENERIC, [2, 0, 1]),
        (["LABEL_1"], GENERIC, [1]),
        (["0", "1"], ("pos", "neg"), [0, 1]),
    ],
)
def test_names_come_first_and_ids_only_where_there_are_none(labels, names, ids):
    assert class_ids(labels, names, shown="dev").tolist() == ids


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["1", "3"], MIXED, r"classes of the model \('1', '2', 'other'\).*, got '3'$"),
        (["0"], MIXED, "classes of the model .*, got '0'"),
        (["0", "3", "-1"], GENERIC, "ids 0 to 2, got '-1', '3'"),
        (["0", "LABEL_1"], GENERIC, "got '0'"),
        (["Pos"], ("pos", "neg"), "got 'Pos'; did you mean 'pos'"),
        (["0", "pos"], ("pos", "neg"), "got '0'"),
    ],
)
def test_labels_that_the_model_does_not_know_are_refused(labels, names, message):
    with pytest.raises(DataError, match=f"^dev: every label .*{message}") as caught:
        class_ids(labels, names, shown="dev")
    assert "training" not in str(caught.value)
