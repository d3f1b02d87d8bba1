"""Requests: real texts in no order, cut to lengths where the workload names some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trimtab_workers.data import Encoded
from trimtab_workers.latency.workload import Workload, draw_requests


def rows(*lengths: int) -> Encoded:
    """Texts that start with their own number and end with 9."""
    ids = [[100 + i, *range(1, length - 1), 9] for i, length in enumerate(lengths)]
    return Encoded.from_lists(ids, [0] * len(ids), [[0] * len(row) for row in ids])


def texts_of(encoded: Encoded) -> list[list[int]]:
    return [encoded.select([i]).tokens.tolist() for i in range(len(encoded))]


def test_requests_are_texts_of_the_data_each_before_any_comes_again() -> None:
    data = rows(5, 9, 4, 7)
    texts, requests = draw_requests(data, Workload(batch_size=3, seed=1), 4)
    assert [len(request) for request in requests] == [3] * 4
    assert np.concatenate(requests).tolist() == list(range(12))
    known = texts_of(data)
    drawn = texts_of(texts)
    for start in (0, 4, 8):
        assert sorted(drawn[start : start + 4]) == sorted(known)
    again, _ = draw_requests(data, Workload(batch_size=3, seed=1), 4)
    assert texts_of(again) == drawn
    other, _ = draw_requests(data, Workload(batch_size=3, seed=2), 4)
    assert texts_of(other) != drawn


def test_lengths_cut_texts_that_are_long_enough_and_keep_their_ends() -> None:
    workload = Workload(lengths=(4, 6, 50), seed=3)
    texts, _ = draw_requests(rows(5, 9, 8, 3), workload, 60)
    for text in texts_of(texts):
        assert text[0] >= 100 and text[-1] == 9
        assert text[1:-1] == list(range(1, len(text) - 1))
    assert set(texts.lengths.tolist()) == {4, 6, 9}  # nothing is as long as 50: the longest
    assert texts.token_types is not None and len(texts.token_types) == len(texts.tokens)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"threads": 0}, {"lengths": ()}, {"lengths": (3, 0)}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Workload(**wrong)


def test_no_texts_are_no_workload() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        draw_requests(rows(), Workload(), 3)


@pytest.mark.parametrize("workload", [Workload(), Workload(8, "cpu", 2, (4, 5), 7)])
def test_a_workload_survives_json(workload: Workload) -> None:
    assert Workload.from_plain(workload.to_plain()) == workload
