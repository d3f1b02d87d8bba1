"""Which class id a label of the data has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab_workers._words import did_you_mean, listed
from trimtab_workers.errors import DataError
from trimtab_workers.sources import ModelFacts

GENERIC = re.compile(r"LABEL_[0-9]+")
NUMBER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class LabelMap:
    """The classes of a task.

    Attributes:
        names: What each class is called, at the place of its id.
        to_id: The id of every label as it occurs in the data (all numbers, or all text).
    """

    names: tuple[str, ...]
    to_id: dict[int | str, int]

    @property
    def n(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def id2label(self) -> dict[int, str]:
        """The names in the form a model's config keeps them."""
        return dict(enumerate(self.names))

    @classmethod
    def from_values(cls, train_labels: Iterable[int | str], facts: ModelFacts) -> LabelMap:
        """Makes the map from the training labels and the model's head.

        A model without a head gets one class for each distinct label, in sorted order. A model
        with a head keeps its own classes: text is matched by name, numbers by name where the
        names are numbers themselves and by id otherwise.

        Raises:
            DataError: There are not at least two classes, or the labels do not fit the head.
        """
        distinct = _sorted_distinct(train_labels)
        if len(distinct) < 2:
            raise DataError(
                "at least two classes are needed in the training labels, "
                f"got only {listed(distinct)}"
            )
        if not facts.has_head:
            return cls(tuple(map(str, distinct)), {label: i for i, label in enumerate(distinct)})
        names = tuple(facts.id2label[i] for i in range(facts.num_labels))
        if len(distinct) > len(names):
            raise DataError(
                f"the model's head has {len(names)} classes ({listed(names)}), but the training "
                f"data has {len(distinct)} ({listed(distinct)}); use a model without a head, or "
                "the data it was fine-tuned on"
            )
        return cls(names, _matched(distinct, names))

    def encode(self, labels: Sequence[int | str], *, shown: str) -> NDArray[np.int64]:
        """Turns labels into class ids.

        Args:
            labels: Labels of the kind the training labels had.
            shown: What to call the data in a message.

        Raises:
            DataError: Some labels did not occur in training.
        """
        unseen = _sorted_distinct(label for label in labels if label not in self.to_id)
        if unseen:
            count = sum(label not in self.to_id for label in labels)
            raise DataError(
                f"{shown}: every label must also occur in the training data, but {listed(unseen)} "
                f"(in {count} of {len(labels)} rows) does not; it has {listed(self.to_id)}"
            )
        return np.array([self.to_id[label] for label in labels], dtype=np.int64)


def _sorted_distinct(labels: Iterable[int | str]) -> list[int | str]:
    return sorted(set(labels), key=lambda label: (isinstance(label, str), label))


def _matched(labels: Sequence[int | str], names: Sequence[str]) -> dict[int | str, int]:
    if all(isinstance(label, int) for label in labels):
        if all(NUMBER.fullmatch(name) for name in names):
            return _by_name(labels, names)
        return _by_id([int(label) for label in labels], len(names))
    return _by_name(labels, names)


def _by_id(labels: Sequence[int], n: int) -> dict[int | str, int]:
    outside = [label for label in labels if not 0 <= label < n]
    if outside:
        hint = "; subtract 1 from all of them" if labels[0] == 1 and labels[-1] == n else ""
        raise DataError(
            f"labels that are numbers must be class ids of the model's head, 0 to {n - 1}, "
            f"got {listed(outside)}{hint}"
        )
    return {label: label for label in labels}


def _by_name(labels: Sequence[int | str], names: Sequence[str]) -> dict[int | str, int]:
    ids = {name: i for i, name in enumerate(names)}
    unknown = [str(label) for label in labels if str(label) not in ids]
    if unknown and all(GENERIC.fullmatch(name) for name in names):
        raise DataError(
            f"the model's head has no names for its classes, only {listed(names)}, so labels "
            f"like {unknown[0]!r} cannot be matched; name the classes in id2label of the model's "
            f"config.json, or use the class ids 0 to {len(names) - 1} as labels"
        )
    if unknown:
        raise DataError(
            f"labels must be classes of the model's head ({listed(names)}), "
            f"got {listed(unknown)}{did_you_mean(unknown[0], names)}"
        )
    return {label: ids[str(label)] for label in labels}
