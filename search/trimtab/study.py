"""Studies from Python: run one, open one, ask for its frontier, emit a checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab._latency_words import shown_latency
from trimtab._owners import is_alive
from trimtab._wording import DEFAULT_DB as DEFAULT_DB
from trimtab.errors import InputError, NothingFinishedError
from trimtab.progress import hypervolume_of
from trimtab.query import check_latency, choose_of_study
from trimtab.selection import Choice, Limits, is_feasible
from trimtab_storage import PointRow, Reader, Store, StudyRow, TrialRow

if TYPE_CHECKING:
    import pandas

    from trimtab.by_length import ByLength
    from trimtab.controller import Reporter
    from trimtab.emission import Emission
    from trimtab.query import Quantity

POINT_FIELDS = (
    *("id", "recipe", "knobs", "metric", "drop", "flops", "flops_ratio", "params", "latency_ms"),
    *("n", "split", "feasible"),
)
"""What is shown of a point, in this order."""


@dataclass(frozen=True)
class Study:
    """One study in a database. Reading it needs neither torch nor Ray, and may be done any time."""

    name: str
    db: str

    def __repr__(self) -> str:
        from trimtab.notebook import study_line

        return study_line(self)

    def _repr_html_(self) -> str:
        from trimtab.notebook import study_html

        return study_html(self)

    def frontier(
        self,
        *,
        cost: str = "flops",
        max_drop: Quantity | None = None,
        max_flops: Quantity | None = None,
        max_latency: Quantity | None = None,
    ) -> pandas.DataFrame:
        """Gives the measured points that no other beats, or those of them within other limits.

        ``feasible`` tells whether a point is within these limits, or, without any, the spec's.

        Args:
            cost: ``flops`` or ``latency``.
            max_drop: In the metric's units, 0.01 is one point; or text such as ``"1 pt"``.
            max_flops: As a fraction of the baseline's; or text such as ``"1.2 GFLOPs"``.
            max_latency: In milliseconds; or text such as ``"8 ms"``.

        Raises:
            InputError: if no latency was measured and one is asked for.
            UnitError: if a limit cannot be read.
        """
        from trimtab_storage import points_frame

        limits = self.read_limits(max_drop, max_flops, max_latency)
        judged = limits or self.limits()
        found = self.frontier_points(limits, cost)
        return points_frame([_as_shown(point, judged) for point in found])

    def by_length(
        self,
        *,
        max_drop: Quantity | None = None,
        max_flops: Quantity | None = None,
        max_latency: Quantity | None = None,
    ) -> pandas.DataFrame:
        """Gives the cost and the drop of the frontier's points among short and long texts.

        The arguments are those of :meth:`frontier`. There is one line for each point and bucket of
        length: texts of ``low`` to ``high`` tokens, ``n`` of them; ``flops_ratio`` is a share of
        what the baseline costs on these very texts. Of points whose records were not kept there
        is none; where the baseline's were not, ``drop`` is missing.

        Raises:
            InputError: if the baseline's files are gone, or latency is limited, but none was
                measured.
            UnitError: if a limit cannot be read.
        """
        from trimtab.by_length import by_length_frame

        return by_length_frame(
            self.points_by_length(self.read_limits(max_drop, max_flops, max_latency))
        )

    def trials(self) -> pandas.DataFrame:
        """Gives every trial with its recipe, state and reason."""
        from trimtab_storage import trials_frame

        with self._reader() as reader:
            return trials_frame(reader.trials(self._row(reader).id))

    def emit(
        self,
        out: str | Path,
        *,
        max_drop: Quantity | None = None,
        max_flops: Quantity | None = None,
        max_latency: Quantity | None = None,
        force: bool = False,
        reporter: Reporter | None = None,
    ) -> Emission:
        """Writes the checkpoint of the best point; without limits, for those of the spec.

        The arguments are those of :meth:`frontier`. When nothing meets the limits, the closest
        point is written and its manifest says so.

        Raises:
            InputError: if ``out`` exists already and ``force`` was not given, or if
                ``max_latency`` was given and no latency was measured.
            UnitError: if a limit cannot be read.
        """
        limits = self.read_limits(max_drop, max_flops, max_latency)
        return self.emit_for(limits, Path(out), force, reporter)

    def emit_for(
        self,
        limits: Limits | None,
        out: Path,
        force: bool = False,
        reporter: Reporter | None = None,
    ) -> Emission:
        """Writes the checkpoint of the best point within ``limits``; None means the spec's."""
        from trimtab.controller import SilentReporter
        from trimtab.controller._emit import emit_of_study

        with Store.open(self.db) as store:
            row = self._row(store)
            chosen = limits or self.limits()
            return emit_of_study(
                store, row, self.choose(chosen), chosen, out, force, reporter or SilentReporter()
            )

    # What the command line shows

    def row(self) -> StudyRow:
        """Gives the study as it stands in the database."""
        with self._reader() as reader:
            return self._row(reader)

    def limits(self) -> Limits:
        """Gives the limits of the spec, as numbers; no limits while there is no baseline."""
        return Limits(**self.row().limits)

    def read_limits(
        self,
        max_drop: Quantity | None,
        max_flops: Quantity | None,
        max_latency: Quantity | None,
    ) -> Limits | None:
        """Reads limits as a caller gives them; None if there are none.

        Raises:
            InputError: if latency is limited, but none was measured.
            UnitError: if a limit cannot be read.
        """
        if max_drop is None and max_flops is None and max_latency is None:
            return None
        from trimtab.query import limits_from

        limits = limits_from(
            self.row().baseline, max_drop=max_drop, max_flops=max_flops, max_latency=max_latency
        )
        if limits.max_latency_ms is not None:
            self._check_latency()
        return limits

    def choose(self, limits: Limits | None = None) -> Choice[PointRow]:
        """Chooses the best point within the limits, or the closest.

        Raises:
            NothingFinishedError: if nothing was measured yet.
        """
        with self._reader() as reader:
            row = self._row(reader)
            choice = choose_of_study(reader, row.id, limits or Limits(**row.limits))
        if choice is None:
            raise NothingFinishedError(f"study {self.name!r} has no measured points yet")
        return choice

    def n_points(self) -> int:
        """Counts the points measured on the search rows."""
        with self._reader() as reader:
            return reader.point_count(self._row(reader).id)

    def points(self) -> list[PointRow]:
        """Gives all points measured on the search rows."""
        with self._reader() as reader:
            return reader.points(self._row(reader).id)

    def frontier_points(self, limits: Limits | None = None, cost: str = "flops") -> list[PointRow]:
        """Gives the frontier, cheapest first, or the part of it within limits.

        Raises:
            InputError: if the cost is latency, but none was measured.
        """
        chosen = limits or Limits()
        if cost == "latency":
            self._check_latency()
        with self._reader() as reader:
            found = reader.frontier(self._row(reader).id, cost, **chosen.on_points())
        # What a point takes of other requests has no column, and few points are on a frontier.
        return [p for p in found if is_feasible(p, chosen)] if chosen.other_latencies_ms else found

    def points_by_length(self, limits: Limits | None = None) -> ByLength:
        """Gives the frontier, or the part of it within limits, by length of text.

        Raises:
            InputError: if the baseline's files are gone.
        """
        from trimtab.by_length import by_length_of

        points = self.frontier_points(limits)
        with self._reader() as reader:
            return by_length_of(reader, self._row(reader), points)

    def trial_rows(self) -> list[TrialRow]:
        """Gives all trials by number."""
        with self._reader() as reader:
            return reader.trials(self._row(reader).id)

    def status(self) -> dict[str, Any]:
        """Gives where the study stands, as ``status --json`` does."""
        with self._reader() as reader:
            row = self._row(reader)
            counts = reader.trial_counts(row.id)
            limits = Limits(**row.limits)
            best = choose_of_study(reader, row.id, limits)
            front = reader.frontier(row.id)
        return {
            "study": row.name,
            "state": _state(row),
            "trials": counts,
            "best": None if best is None else point_plain(best.point, limits),
            "baseline": baseline_plain(row),
            "elapsed_s": round(row.elapsed_s, 1),
            "remaining_s": _remaining_s(row, counts),
            "hypervolume": hypervolume_of(front, limits.max_drop),
        }

    def _check_latency(self) -> None:
        with self._reader() as reader:
            check_latency(reader, self._row(reader).id)

    def _reader(self) -> Reader:
        return Reader.open_reader(self.db)

    def _row(self, reader: Reader) -> StudyRow:
        row = reader.study(self.name)
        if row is None:
            names = ", ".join(study.name for study in reader.studies()) or "none"
            raise InputError(f"no study {self.name!r} in {self.db}; there are: {names}")
        return row


def open_study(name: str, *, db: str = DEFAULT_DB) -> Study:
    """Opens a running or finished study for reading and emitting.

    Raises:
        InputError: if there is none of that name; the message lists those there are.
    """
    study = Study(name, db)
    study.row()
    return study


def point_plain(point: PointRow, limits: Limits | None = None) -> dict[str, Any]:
    """Gives a point as ``frontier --json`` does; feasible by ``limits``, if given."""
    others_ms = () if limits is None else limits.other_latencies_ms
    known = {**vars(point), "latency_ms": shown_latency(point.latency, others_ms)}
    if limits is not None:
        known["feasible"] = is_feasible(point, limits)
    return {name: known[name] for name in POINT_FIELDS}


def baseline_plain(row: StudyRow) -> dict[str, Any] | None:
    """Gives a study's baseline as ``status --json`` does; None where it is not measured yet."""
    if row.baseline is None:
        return None
    return {**row.baseline, "latency_ms": shown_latency(row.baseline.get("latency_ms"))}


def _as_shown(point: PointRow, limits: Limits) -> PointRow:
    latency = None if shown_latency(point.latency) is None else point.latency
    return replace(point, feasible=is_feasible(point, limits), latency=latency)


_UNIT_S = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}
"""The units that rows hold durations in; the spec's own reader would take a tenth of a second to
import, which is too long for those who only look."""


def _state(row: StudyRow) -> str:
    """Tells a study that runs from one whose controller is gone without a word."""
    if row.state != "running":
        return str(row.state)
    runs = is_alive(row.lease_owner or "")
    if runs is None:
        runs = row.lease_expires is not None and row.lease_expires > time.time()
    # Who is there and could not renew its lease, as on a full disk, will do so.
    return "running" if runs else "interrupted"


def _remaining_s(row: StudyRow, counts: dict[str, int]) -> float | None:
    """Gives the time that is left of what the spec allows; None when there is nothing to do."""
    wanted = row.spec["search"]["trials"]
    if row.state == "finished" or counts["complete"] + counts["failed"] >= wanted:
        return None
    number, unit = row.spec["search"]["time"].split()
    return round(max(0.0, float(number) * _UNIT_S[unit] - row.elapsed_s), 1)
