"""What is timed: requests of a few texts each, as a user of the finished model would send them.

Legend:
    request    the texts that one forward pass is given together
    workload   how large requests are, of which texts, and on what they run
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trimtab_workers.data import Encoded

Statistic = Literal["p50", "p95", "mean"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


@dataclass(frozen=True)
class Workload:
    """How a model is used: so many texts a request, on that device, with so many CPU threads.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``mps``; ``threads`` None is as many as the
    process may use. ``lengths`` are the tokens of texts to imitate; None takes the data as it is.
    """

    batch_size: int = 1
    device: str = "auto"
    threads: int | None = None
    lengths: tuple[int, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, but got {value}")
        if self.lengths is not None and (not self.lengths or min(self.lengths) < 1):
            raise ValueError(f"lengths must be some positive numbers, but got {self.lengths}")

    def to_plain(self) -> dict[str, Any]:
        """Gives the workload as JSON has it."""
        return {**asdict(self), "lengths": None if self.lengths is None else list(self.lengths)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Workload:
        """Reads what :meth:`to_plain` gave."""
        lengths = plain.get("lengths")
        return cls(**{**plain, "lengths": None if lengths is None else tuple(lengths)})


def draw_requests(
    rows: Encoded, workload: Workload, n_requests: int
) -> tuple[Encoded, list[NDArray[np.int64]]]:
    """Draws requests as they would arrive: texts at random, in no order of length.

    Where the workload names lengths, each text is one of the data that is at least that long, cut
    to it, or the longest there is: exits and token rules see real text at any length.

    Returns:
        The texts, and the row numbers of each request. The same for the same arguments.

    Raises:
        ValueError: if there are no rows.
    """
    from trimtab_workers.latency._drawing import as_requests, drawn_rows

    if not len(rows):
        raise ValueError("a workload needs at least one text, but got none")
    return as_requests(drawn_rows(rows, workload, n_requests), workload.batch_size)
