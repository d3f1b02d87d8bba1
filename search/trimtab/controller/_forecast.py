"""What points will take of all that is limited: a table of parts for each kind of request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.controller._baseline import Baseline
from trimtab.controller._expected import only_predicted, whole
from trimtab.controller._predictor import Predictor
from trimtab.controller._session import Session
from trimtab_workers.latency.asked import Asked
from trimtab_workers.latency.saved import Prediction
from trimtab_workers.latency.workload import Workload


class Forecast:
    """Predicts the latencies of points, a part for each limit, and what the limits leave of FLOPs.

    ``references`` are what the baseline takes, in the order of what is ``wanted``.
    """

    def __init__(
        self,
        session: Session,
        baseline: Baseline,
        wanted: Sequence[Asked],
        references: Sequence[Mapping[str, Any]],
    ) -> None:
        self._wanted = wanted
        self._by_workload: dict[Workload, Predictor] = {}
        for asked, reference in zip(wanted, references, strict=True):
            if asked.workload not in self._by_workload:
                made = Predictor(session, baseline, asked.workload, reference)
                self._by_workload[asked.workload] = made

    def of(self, settings: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any] | None]:
        """Gives the latency of each model at its knobs; None where its files are gone."""
        found = {each: predictor.of(settings) for each, predictor in self._by_workload.items()}
        by_limit = [found[asked.workload] for asked in self._wanted]
        return [self._latency(guesses) for guesses in zip(*by_limit, strict=True)]

    def _latency(self, guesses: Sequence[Prediction | None]) -> dict[str, Any] | None:
        parts = [only_predicted(guess) for guess in guesses]
        return None if all(part is None for part in parts) else whole(parts, self._wanted)

    def share_within(self, limits_ms: Sequence[float]) -> float | None:
        """Gives the share of the dense FLOPs that the tightest of the limits leaves sliced models.

        None where not even a model with nothing left is within all of them.
        """
        shares = self._shares(limits_ms)
        return None if None in shares else min([1.0, *(share or 0.0 for share in shares)])

    def prices(self, limits_ms: Sequence[float]) -> str:
        """Gives what heads and filters take of the requests whose limit is the tightest."""
        shares = [share or 0.0 for share in self._shares(limits_ms)]
        asked = self._wanted[shares.index(min(shares)) if shares else 0]
        return self._by_workload[asked.workload].prices(asked.statistic)

    def _shares(self, limits_ms: Sequence[float]) -> list[float | None]:
        return [
            self._by_workload[asked.workload].share_within(asked.statistic, limit_ms)
            for asked, limit_ms in zip(self._wanted, limits_ms, strict=True)
        ]
