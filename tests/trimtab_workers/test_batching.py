import numpy as np
import pytest
import torch

from trimtab_workers.batching import collate, length_sorted_batches
from trimtab_workers.data import Encoded

CPU = torch.device("cpu")


def rows_of_lengths(lengths, types=False):
    tokens = [[10 * i + j for j in range(n)] for i, n in enumerate(lengths)]
    kinds = [[j % 2 for j in range(n)] for n in lengths] if types else None
    return Encoded.from_lists(tokens, [i % 3 for i in range(len(lengths))], kinds)


def test_encoded_rows_keep_their_tokens():
    rows = rows_of_lengths([3, 1, 2], types=True)
    assert len(rows) == 3
    assert rows.lengths.tolist() == [3, 1, 2]
    assert rows.tokens.tolist() == [0, 1, 2, 10, 20, 21]
    assert rows.tokens.dtype == np.int32


def test_selecting_takes_rows_in_the_order_asked():
    chosen = rows_of_lengths([3, 1, 2], types=True).select([2, 0, 2])
    assert chosen.tokens.tolist() == [20, 21, 0, 1, 2, 20, 21]
    assert chosen.token_types.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert chosen.labels.tolist() == [2, 0, 2]
    assert len(chosen.select([])) == 0


def test_sorted_batches_start_with_the_longest_and_hold_every_row_once():
    rows = rows_of_lengths([2, 5, 3, 5, 1])
    assert [batch.tolist() for batch in length_sorted_batches(rows, 2)] == [[1, 3], [2, 0], [4]]


def test_training_batches_are_shuffled_by_seed_and_of_near_equal_length():
    seed = 11
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 100, size=1000)
    rows = rows_of_lengths(lengths.tolist())
    batches = length_sorted_batches(rows, 10, seed=seed)
    assert sorted(np.concatenate(batches)) == list(range(1000)), f"seed {seed}"
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 10, f"seed {seed}: random batches have about 80"
    firsts = [lengths[batch].max() for batch in batches]
    assert firsts != sorted(firsts, reverse=True)
    again = length_sorted_batches(rows, 10, seed=seed)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))
    other = length_sorted_batches(rows, 10, seed=(seed, 1))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(batches, other, strict=True))


def test_rows_change_partners_between_epochs():
    rows = rows_of_lengths([7] * 64)
    one, two = (
        {frozenset(batch.tolist()) for batch in length_sorted_batches(rows, 8, seed=(0, epoch))}
        for epoch in (0, 1)
    )
    assert one != two


@pytest.mark.parametrize("n", [1, 7, 8, 9])
def test_no_batch_is_larger_than_asked(n):
    rows = rows_of_lengths([3] * n)
    for seed in (None, 0):
        sizes = [len(batch) for batch in length_sorted_batches(rows, 4, seed=seed)]
        assert sum(sizes) == n
        assert max(sizes) <= 4


def test_batches_are_padded_to_their_own_longest():
    rows = rows_of_lengths([3, 1, 9], types=True)
    batch = collate(rows, np.array([1, 0]), pad_token_id=77, device=CPU)
    assert batch["input_ids"].tolist() == [[10, 77, 77], [0, 1, 2]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_rows_of_one_text_have_no_types():
    batch = collate(rows_of_lengths([2]), np.array([0]), pad_token_id=0, device=CPU)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
