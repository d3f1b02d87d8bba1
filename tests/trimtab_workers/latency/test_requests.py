"""Requests as arrays: they come back from a file as they were, and as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trimtab_workers.data import Encoded
from trimtab_workers.latency.requests import Requests


def requests(*, with_types: bool) -> Requests:
    rows = [[2, 5, 3], [2, 3], [2, 7, 8, 3]]
    types = [[0] * len(row) for row in rows] if with_types else None
    return Requests(Encoded.from_lists(rows, [1, 0, 1], types), 2, 9)


@pytest.mark.parametrize("with_types", [True, False])
def test_requests_come_back_from_a_file_without_labels(with_types: bool, tmp_path: Path) -> None:
    before = requests(with_types=with_types)
    before.save(tmp_path / "requests.npz")
    after = Requests.load(tmp_path / "requests.npz")
    assert (after.batch_size, after.pad_token_id, len(after)) == (2, 9, 2)
    assert after.texts.labels.tolist() == [0, 0, 0]
    assert (after.texts.token_types is not None) is with_types
    device = torch.device("cpu")
    for one, other in zip(before.tensors(device), after.tensors(device), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_request_is_what_a_model_is_called_with() -> None:
    first, second = requests(with_types=False).tensors(torch.device("cpu"))
    assert first["input_ids"].tolist() == [[2, 5, 3], [2, 3, 9]]
    assert first["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert second["input_ids"].tolist() == [[2, 7, 8, 3]]
    assert set(first) == {"input_ids", "attention_mask"}


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "requests.npz"
    np.savez(path, tokens=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Requests.load(path)
