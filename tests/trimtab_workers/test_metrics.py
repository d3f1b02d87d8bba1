import math

import numpy as np
import pytest

from trimtab_workers.errors import WorkerInputError
from trimtab_workers.metrics import metric_of_counts, metric_value


def value(name, predictions, labels, n):
    return metric_value(name, np.array(predictions), np.array(labels), n)


def test_accuracy():
    assert value("accuracy", [0, 1, 2, 2], [0, 1, 1, 2], 3) == 0.75


def test_f1_of_two_classes_is_that_of_class_one():
    # tp 1, fp 1, fn 2
    assert value("f1", [1, 1, 0, 0, 0], [1, 0, 1, 1, 0], 2) == pytest.approx(2 / 5)


def test_f1_of_two_classes_does_not_depend_on_which_occur():
    assert value("f1", [0, 0], [0, 0], 2) == 0.0


def test_f1_of_more_classes_is_the_plain_mean():
    # class 0: 2/3, class 1: 2/3, class 2: 1
    assert value("f1", [0, 0, 1, 2], [0, 1, 1, 2], 3) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_matthews():
    tp, tn, fp, fn = 2, 1, 1, 1
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert value("matthews", [1, 1, 0, 1, 0], [1, 1, 0, 0, 1], 2) == pytest.approx(expected)
    assert value("matthews", [1, 1], [0, 1], 2) == 0.0


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(WorkerInputError, match="one of accuracy, f1, matthews, got 'acuracy'; did"):
        value("acuracy", [0], [0], 2)
    with pytest.raises(WorkerInputError, match="got 0 predictions and 0 labels"):
        value("f1", [], [], 2)
    with pytest.raises(WorkerInputError, match="got 2 predictions and 1 labels"):
        value("f1", [0, 1], [0], 2)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews"])
def test_counts_of_classes_score_as_the_rows_do(name):
    seed = np.random.randint(2**31)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(50):
        n, n_classes = int(rng.integers(1, 12)), int(rng.integers(2, 5))
        labels = rng.integers(0, n_classes, n)
        outcomes = rng.integers(0, n_classes, (3, n))
        right = [np.bincount(o[o == labels], minlength=n_classes) for o in outcomes]
        said = [np.bincount(o, minlength=n_classes) for o in outcomes]
        labelled = np.bincount(labels, minlength=n_classes)
        found = metric_of_counts(name, np.array(right), np.array(said), labelled)
        expected = [metric_value(name, o, labels, n_classes) for o in outcomes]
        assert found.tolist() == pytest.approx(expected)
