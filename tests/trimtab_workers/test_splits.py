import numpy as np
import pytest

from trimtab_workers._splits import halve, hold_out
from trimtab_workers.errors import DataError


def test_halves_are_disjoint_complete_and_stratified():
    labels = np.array([0] * 120 + [1] * 60 + [2] * 20)
    search, certify = halve(labels, seed=3)
    assert sorted([*search, *certify]) == list(range(200))
    assert (np.diff(search) > 0).all()
    assert np.bincount(labels[search]).tolist() == [60, 30, 10]
    assert np.bincount(labels[certify]).tolist() == [60, 30, 10]


def test_halves_depend_on_the_seed_only():
    labels = np.arange(300) % 3
    assert (halve(labels, 1)[0] == halve(labels, 1)[0]).all()
    assert (halve(labels, 1)[0] != halve(labels, 2)[0]).any()


def test_lone_rows_go_to_search():
    labels = np.array([0] * 60 + [1] * 60 + [2, 3])
    search, certify = halve(labels, 0)
    assert {120, 121} <= set(search.tolist())
    assert len(certify) == 60


def test_smallest_validation_is_a_hundred_rows():
    assert [len(half) for half in halve(np.arange(100) % 2, 0)] == [50, 50]
    with pytest.raises(DataError, match=r"dev: .*at least 50 rows, but there are only 99; .* 100"):
        halve(np.arange(99) % 2, 0, shown="dev")
    with pytest.raises(DataError, match=r"only 101 \(2 of them the only one .* at least 102"):
        halve(np.array([0] * 99 + [1, 2]), 0)


def test_a_tenth_is_held_out_with_every_class():
    labels = np.array([0] * 900 + [1] * 96 + [2] * 4)
    kept, held = hold_out(labels, 0)
    assert sorted([*kept, *held]) == list(range(1000))
    assert np.bincount(labels[held]).tolist() == [90, 9, 1]


def test_no_more_than_five_hundred_are_held_out():
    labels = np.arange(20_000) % 4
    kept, held = hold_out(labels, 0)
    assert np.bincount(labels[held]).tolist() == [125] * 4
    crowded = np.repeat(np.arange(600), 2)
    assert len(hold_out(crowded, 0)[1]) == 500
    assert len(set(crowded[hold_out(crowded, 0)[1]])) == 500


def test_the_only_row_of_a_class_is_trained_on():
    labels = np.array([0, 0, 0, 1])
    kept, held = hold_out(labels, 0)
    assert 3 in kept
    assert labels[held].tolist() == [0]
    with pytest.raises(DataError, match="none of 3 training rows shares its class"):
        hold_out(np.arange(3), 0)
