"""Text as token ids, kept compactly, and how it gets there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_workers._loading import tokenizer_faults
from trimtab_workers.errors import DataError, ModelError
from trimtab_workers.sources import ModelFacts

Row = Sequence[int] | NDArray[np.int32]

ROWS_AT_ONCE = 1000
MOSTLY_UNKNOWN = 0.9


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of token ids, laid end to end, and their class ids.

    Attributes:
        tokens: All token ids `(sum of lengths,)`.
        offsets: Where each row begins, and the end `(rows + 1,)`.
        labels: Class ids `(rows,)`.
        token_types: Which of two texts each token belongs to `(sum of lengths,)`; None where the
            model makes no difference.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    token_types: NDArray[np.int32] | None = None

    @classmethod
    def from_lists(
        cls,
        rows: Sequence[Row],
        labels: Sequence[int] | NDArray[np.int64],
        token_types: Sequence[Row] | None = None,
    ) -> Encoded:
        """Lays rows of different lengths end to end."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        return cls(
            tokens=_flat(rows),
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]),
            labels=np.asarray(labels, dtype=np.int64),
            token_types=None if token_types is None else _flat(token_types),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens in each row, special ones included."""
        return np.diff(self.offsets)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> Encoded:
        """The rows with these numbers, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[chosen]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return Encoded(
            tokens=self.tokens[places],
            offsets=offsets,
            labels=self.labels[chosen],
            token_types=None if self.token_types is None else self.token_types[places],
        )


def _flat(rows: Sequence[Row]) -> NDArray[np.int32]:
    empty = np.zeros(0, dtype=np.int32)
    return np.concatenate([empty, *(np.asarray(row, dtype=np.int32) for row in rows)])


def encode(
    tokenizer: Any,
    texts: Sequence[Sequence[str]],
    labels: NDArray[np.int64],
    *,
    max_length: int,
    facts: ModelFacts,
) -> tuple[Encoded, int]:
    """Tokenises one or two columns of text.

    Args:
        tokenizer: A fast tokenizer of transformers.
        texts: One or two columns of equal length.
        labels: Class ids.
        max_length: Longest row in tokens, special ones included.
        facts: Of the model that will read the rows.

    Returns:
        The rows, and how many of them were cut to `max_length`.

    Raises:
        DataError: `max_length` leaves no room for text.
        ModelError: The tokenizer is broken, not the model's, or knows next to none of the text.
    """
    special = tokenizer.num_special_tokens_to_add(pair=len(texts) == 2)
    if max_length < special + len(texts):
        raise DataError(
            f"max_length must leave room for text beside {special} special tokens, "
            f"so be at least {special + len(texts)}, got {max_length}"
        )
    two_types = len(texts) == 2 and facts.type_vocab_size > 1
    rows: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int32]] = []
    truncated = 0
    for start in range(0, len(labels), ROWS_AT_ONCE):
        batch = [list(column[start : start + ROWS_AT_ONCE]) for column in texts]
        with tokenizer_faults(tokenizer.name_or_path, "work on the text"):
            ids, kinds, cut = _tokenise(tokenizer, batch, max_length, two_types)
            rows += [np.array(row, dtype=np.int32) for row in ids]
            types += [np.array(row, dtype=np.int32) for row in kinds]
        truncated += cut
    encoded = Encoded.from_lists(rows, labels, types if two_types else None)
    _check_vocabulary(tokenizer, encoded, special, facts)
    return encoded, truncated


def _tokenise(
    tokenizer: Any, batch: list[list[str]], max_length: int, two_types: bool
) -> tuple[list[list[int]], list[list[int]], int]:
    # types must be asked for: a tokenizer saved as a generic one leaves them out
    options = {"return_token_type_ids": two_types, "add_special_tokens": True, "verbose": False}
    whole = tokenizer(*batch, truncation=False, **options)
    ids, types = whole["input_ids"], whole.get("token_type_ids", [])
    long = [row for row, tokens in enumerate(ids) if len(tokens) > max_length]
    if long:
        columns = [[column[row] for row in long] for column in batch]
        cut = tokenizer(*columns, truncation=True, max_length=max_length, **options)
        for place, row in enumerate(long):
            ids[row] = cut["input_ids"][place]
            if types:
                types[row] = cut["token_type_ids"][place]
    return ids, types, len(long)


def _check_vocabulary(tokenizer: Any, rows: Encoded, special: int, facts: ModelFacts) -> None:
    if not rows.lengths.all():
        raise ModelError(
            f"{tokenizer.name_or_path}: the tokenizer must give at least one token for every row, "
            "but gives none for some; is its tokenizer.json whole?"
        )
    highest = int(rows.tokens.max())
    if highest >= facts.vocab_size:
        raise ModelError(
            f"the tokenizer must belong to the model, but it gives token {highest} and the model "
            f"has only {facts.vocab_size}; take both from the same folder"
        )
    if tokenizer.unk_token_id is None:
        return
    words = len(rows.tokens) - special * len(rows)
    unknown = int((rows.tokens == tokenizer.unk_token_id).sum())
    if unknown > MOSTLY_UNKNOWN * words:
        raise ModelError(
            f"the tokenizer must know the text, but {unknown} of {words} tokens are "
            f"{tokenizer.unk_token}; is it the model's own tokenizer, and the text's language?"
        )
