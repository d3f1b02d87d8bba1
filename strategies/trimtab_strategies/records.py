"""What one pass over a split recorded of every sample, as arrays that can be kept.

Legend:
    N  samples    L  layers    E  exits    C  classes
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PREFIX, SUFFIX = "records-search", ".npz"
SCALES = ("delta_scale", "alpha_sc")
"""The knobs that change which tokens are left, so that each setting needs records of its own."""


def records_file(knobs: Mapping[str, Any]) -> str:
    """Names the file, beside a model's weights, of its records of the search rows.

    All settings of the other knobs follow from the records at one scale, so they share a file.
    """
    scales = {name: float(knobs.get(name, 1.0)) for name in SCALES}
    named = "".join(f"-{name}-{scale}" for name, scale in scales.items() if scale != 1.0)
    return f"{PREFIX}{named}{SUFFIX}"


def is_records_file(name: str) -> bool:
    """Tells whether a file of that name holds records: what they say of rows is the user's."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


@dataclass(frozen=True, eq=False)
class Records:
    """What one pass over N samples recorded of a model of L layers with E exits.

    ``lengths`` [N] are real tokens, ``kept`` [N, L] those left after each layer. Exits read after
    ``exit_layers``, 0-based and ascending; the final classifier, after the last layer, is none of
    them. ``exit_logits`` are [N, E, C], ``logits`` [N, C] are the final classifier's, ``labels``
    [N] class ids.

    Raises:
        ValueError: if shapes, types or values do not fit together.
    """

    lengths: Ints
    kept: Ints
    exit_layers: tuple[int, ...]
    exit_logits: Floats
    logits: Floats
    labels: Ints

    def __post_init__(self) -> None:
        n, n_classes = self.lengths.size, self.logits.shape[-1:]
        self._check("lengths", np.int64, (n,))
        self._check("kept", np.int64, (n, *self.kept.shape[-1:]))
        self._check("logits", np.float64, (n, *n_classes))
        self._check("exit_logits", np.float64, (n, len(self.exit_layers), *n_classes))
        self._check("labels", np.int64, (n,))
        last = self.kept.shape[1] - 1
        if list(self.exit_layers) != [layer for layer in range(last) if layer in self.exit_layers]:
            raise ValueError(
                f"exit_layers must ascend from 0 or more and stay below the last layer, {last}, "
                f"but got {self.exit_layers}"
            )
        steps = np.diff(self.kept, axis=1, prepend=self.lengths[:, None])
        if self.kept.min() < 1 or steps.max() > 0:
            raise ValueError("kept must be at most lengths, never rise, and stay at 1 or more")
        if self.labels.min() < 0 or self.labels.max() >= n_classes[0]:
            raise ValueError(f"labels must be from 0 to {n_classes[0] - 1}")

    def _check(self, name: str, kind: type, shape: tuple[int, ...]) -> None:
        array: NDArray[Any] = getattr(self, name)
        if array.dtype != kind or array.shape != shape or 0 in (shape[0], shape[-1]):
            raise ValueError(
                f"{name} must be {kind.__name__} of shape {shape} and not empty, "
                f"but got {array.dtype} of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite; a NaN usually means that training diverged")

    def save(self, path: Path) -> None:
        """Writes the records as an ``.npz`` file; equal records give equal bytes."""
        arrays = vars(self) | {"exit_layers": np.array(self.exit_layers, dtype=np.int64)}
        with path.open("wb") as file:  # given a path, numpy would add .npz to it
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Records:
        """Reads what :meth:`save` wrote; nothing in the file is executed.

        Raises:
            ValueError: if the file does not hold records.
            OSError: if it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in cls.__dataclass_fields__}
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} must be a file of records: {error}") from error
        layers = arrays.pop("exit_layers").ravel().tolist()
        return cls(exit_layers=tuple(layers), **arrays)
