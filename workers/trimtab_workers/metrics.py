"""The metrics a task can name, as pure functions of class ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab_workers._words import did_you_mean
from trimtab_workers.errors import WorkerInputError

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def metric_value(name: str, predictions: Ids, labels: Ids, n_labels: int) -> float:
    """Scores predicted classes against the true ones; higher is better.

    Args:
        name: `accuracy`; `f1`, with class 1 as the positive one when there are two classes and
            the unweighted mean over classes otherwise; or `matthews`.
        predictions: Class ids, one for each row.
        labels: The true class ids.
        n_labels: How many classes the task has, whether or not all occur here.

    Raises:
        WorkerInputError: The metric is unknown, or the arrays are empty or unequal.
    """
    if name not in _METRICS:
        known = ", ".join(_METRICS)
        raise WorkerInputError(
            f"metric must be one of {known}, got {name!r}{did_you_mean(name, _METRICS)}"
        )
    if len(predictions) != len(labels) or len(labels) == 0:
        raise WorkerInputError(
            "a metric needs one prediction for each of at least one label, "
            f"got {len(predictions)} predictions and {len(labels)} labels"
        )
    return _METRICS[name](np.asarray(predictions), np.asarray(labels), n_labels)


def metric_of_counts(
    name: str, right: NDArray[Any], predicted: NDArray[Any], labelled: NDArray[Any]
) -> NDArray[np.float64]:
    """Scores many outcomes at once, from counts of each class: what `metric_value` would give.

    Args:
        name: As there.
        right: `(..., classes)`, right predictions of each class.
        predicted: `(..., classes)`, all predictions of each class.
        labelled: `(classes,)`, the rows of each class; the same rows for all outcomes.

    Raises:
        WorkerInputError: The metric is unknown.
    """
    if name not in _OF_COUNTS:
        raise WorkerInputError(f"metric must be one of {', '.join(_OF_COUNTS)}, got {name!r}")
    counts = (np.asarray(part, dtype=np.float64) for part in (right, predicted, labelled))
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Floats = np.nan_to_num(_OF_COUNTS[name](*counts))
    return values


def _accuracy_of_counts(right: Floats, predicted: Floats, labelled: Floats) -> Floats:
    return np.asarray(right.sum(axis=-1) / labelled.sum())


def _f1_of_counts(right: Floats, predicted: Floats, labelled: Floats) -> Floats:
    of_classes = np.nan_to_num(2 * right / (predicted + labelled))
    if len(labelled) == 2:
        return np.asarray(of_classes[..., 1])
    # As the library does: classes that occur nowhere are no part of the mean.
    occurs = predicted + labelled > 0
    return np.asarray(of_classes.sum(axis=-1) / occurs.sum(axis=-1))


def _matthews_of_counts(right: Floats, predicted: Floats, labelled: Floats) -> Floats:
    n = labelled.sum()
    together = right.sum(axis=-1) * n - predicted @ labelled
    apart = (n**2 - np.square(predicted).sum(axis=-1)) * (n**2 - np.square(labelled).sum())
    return np.asarray(together / np.sqrt(apart))


def _accuracy(predictions: Ids, labels: Ids, n_labels: int) -> float:
    return float(_sklearn().accuracy_score(labels, predictions))


def _f1(predictions: Ids, labels: Ids, n_labels: int) -> float:
    average = "binary" if n_labels == 2 else "macro"
    return float(_sklearn().f1_score(labels, predictions, average=average, zero_division=0.0))


def _matthews(predictions: Ids, labels: Ids, n_labels: int) -> float:
    return float(_sklearn().matthews_corrcoef(labels, predictions))


def _sklearn() -> Any:
    import sklearn.metrics

    return sklearn.metrics


_METRICS: Mapping[str, Callable[[Ids, Ids, int], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
}

_OF_COUNTS: Mapping[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": _accuracy_of_counts,
    "f1": _f1_of_counts,
    "matthews": _matthews_of_counts,
}
