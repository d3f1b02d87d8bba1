"""Points, their flags and the frontier."""

from __future__ import annotations

import random

import pytest

from trimtab_storage.errors import (
    InvalidValueError,
    UnknownRowError,
)
from trimtab_storage.invariants import check_invariants
from trimtab_storage.rows import (
    Lease,
    StudyRow,
)
from trimtab_storage.store import Store
from trimtab_storage.testing._base import ContractFixtures
from trimtab_storage.testing._values import (
    TTL_S,
    beaten,
    complete,
    latency_of,
    make_artifact,
    make_point,
    timed,
)


class PointContract(ContractFixtures):
    """Points, their flags and the frontier."""

    def test_point_comes_back_as_it_was_measured(self, store: Store, lease: Lease) -> None:
        """All columns, JSON included."""
        latency = {"statistic": "p95", "value": 7.5, "high": 8.0, "verdict": "stable"}
        new = make_point(knobs={"tau": 0.25, "é": [1]}, latency=latency, feasible=False)
        (point_id,) = store.add_points(lease, [new], [make_artifact()])
        row = store.point(point_id)
        assert row is not None
        assert {name: getattr(row, name) for name in vars(new)} == vars(new)
        assert (row.study_id, row.trial_id) == (lease.study_id, None)
        assert store.point(point_id + 1) is None

    def test_point_measured_again_keeps_its_row(self, store: Store, lease: Lease) -> None:
        """Also when another trial measures it: both are complete, one row is there."""
        first = complete(store, lease, 1, make_point("aa00", knobs={"a": 1, "b": 2}))
        again = make_point("aa00", knobs={"b": 2, "a": 1}, metric=0.5)
        second = complete(store, lease, 2, again)
        (row,) = store.points(lease.study_id)
        assert (row.trial_id, row.metric) == (first.id, 0.9)
        assert second.shared_points == 1
        assert check_invariants(store, lease.study_id) == []

    def test_certified_point_is_kept_once_and_never_flagged(
        self, store: Store, lease: Lease
    ) -> None:
        """It needs no lease, and does not move the frontier of the search split."""
        (searched,) = store.add_points(lease, [make_point("aa00", drop=0.05)])
        new = make_point("aa00", split="certify", drop=-1.0, flops=1.0)
        row = store.add_certified_point(lease.study_id, new)
        again = make_point("aa00", split="certify", drop=0.3)
        assert store.add_certified_point(lease.study_id, again) == row
        assert (row.on_flops_frontier, row.drop) == (False, -1.0)
        assert [p.id for p in store.points(lease.study_id)] == [searched]
        assert [p.id for p in store.points(lease.study_id, "certify")] == [row.id]
        assert [p.id for p in store.points(lease.study_id, None)] == [searched, row.id]
        assert [p.id for p in store.frontier(lease.study_id)] == [searched]

    def test_certified_point_must_be_of_the_certify_split(
        self, store: Store, study: StudyRow
    ) -> None:
        """Otherwise it could enter a frontier without a lease."""
        with pytest.raises(InvalidValueError, match="certify"):
            store.add_certified_point(study.id, make_point(split="search"))

    def test_latencies_that_change_move_the_frontier(self, store: Store, lease: Lease) -> None:
        """What was beaten may not be any more; what has none any more has no place there."""
        new = [
            make_point(f"a{i}", drop=drop, latency=timed(ms))
            for i, (drop, ms) in enumerate([(0.01, 5.0), (0.02, 4.0), (0.03, 6.0), (0.04, None)])
        ]
        first, second, third, fourth = store.add_points(lease, new)
        assert self.fastest(store, lease) == [second, first]
        changed = store.set_latencies(
            lease,
            {
                first: timed(7.0),
                second: None,
                fourth: {"verdict": "predicted", "value": None, "predicted": 1.0},
            },
            lambda row: row.id == first,
        )
        assert [(row.id, row.feasible) for row in changed] == [
            (first, True),
            (second, False),
            (fourth, False),
        ]
        assert self.fastest(store, lease) == [third, first]
        assert [p.id for p in store.points(lease.study_id) if p.feasible] == [first, third]
        assert store.point(second).latency is None  # type: ignore[union-attr]
        store.set_latencies(lease, {fourth: timed(1.0, verdict="unstable")}, bool)
        assert self.fastest(store, lease) == [third, first]
        store.set_latencies(lease, {fourth: timed(6.5)}, bool)
        assert self.fastest(store, lease) == [third, first]
        store.set_latencies(lease, {third: timed(8.0)}, bool)
        assert self.fastest(store, lease) == [fourth, first]
        assert check_invariants(store, lease.study_id) == []

    def test_latencies_are_of_points_of_the_study(self, store: Store, lease: Lease) -> None:
        """Those of others are not touched, and nothing is written by halves."""
        (mine,) = store.add_points(lease, [make_point("aa", latency=timed(5.0))])
        other = store.create_study("other", {}, {}, {})
        theirs = store.acquire(other.id, "other", TTL_S)
        (there,) = store.add_points(theirs, [make_point("aa", latency=timed(5.0))])
        with pytest.raises(UnknownRowError, match="points of study"):
            store.set_latencies(lease, {mine: timed(9.0), there: timed(9.0)}, bool)
        for point_id in (mine, there):
            row = store.point(point_id)
            assert row is not None and row.latency == timed(5.0) and row.on_latency_frontier

    @staticmethod
    def fastest(store: Store, lease: Lease) -> list[int]:
        """Gives the points of the latency frontier, the fastest first."""
        return [row.id for row in store.frontier(lease.study_id, "latency")]

    @pytest.mark.parametrize("seed", range(8))
    def test_flags_follow_the_definition_on_random_points(
        self, store: Store, lease: Lease, seed: int
    ) -> None:
        """In batches of random size, with many exact ties, against the quadratic definition."""
        print(f"seed {seed}")
        rng = random.Random(seed)
        spread = rng.choice((3, 10, 1000))
        for batch in range(rng.randint(5, 12)):
            store.add_points(
                lease,
                [
                    make_point(
                        f"{batch:04x}{i:04x}",
                        drop=rng.randrange(spread) / spread - 0.1,
                        flops=float(rng.randrange(spread)),
                        latency=rng.choice((None, {"value": float(rng.randrange(spread))})),
                        split=rng.choice(("search", "search", "certify")),
                    )
                    for i in range(rng.randint(1, 25))
                ],
            )
            rows = store.points(lease.study_id, split=None)
            for row in rows:
                search = row.split == "search"
                flops = search and not beaten(row, rows, lambda other: other.flops)
                timed = search and row.latency is not None
                latency = timed and not beaten(row, rows, latency_of)
                assert (row.on_flops_frontier, row.on_latency_frontier) == (flops, latency)
        assert check_invariants(store, lease.study_id) == []

    def test_frontiers_of_studies_are_apart(self, store: Store, lease: Lease) -> None:
        """A point of one does not beat those of another."""
        theirs = store.acquire(store.create_study("other", {}, {}, {}).id, "one", TTL_S)
        store.add_points(lease, [make_point(drop=0.0, flops=1.0)])
        (other,) = store.add_points(theirs, [make_point(drop=0.5, flops=9.0)])
        assert [point.id for point in store.frontier(theirs.study_id)] == [other]

    def test_points_can_be_read_as_they_come(self, store: Store, lease: Lease) -> None:
        """Of what was read before nothing comes again."""
        first = store.add_points(lease, [make_point("aa00"), make_point("bb00")])
        assert [point.id for point in store.points(lease.study_id)] == first
        assert store.points(lease.study_id, after_id=first[-1]) == []
        (third,) = store.add_points(lease, [make_point("aa00"), make_point("cc00")])[1:]
        assert [p.id for p in store.points(lease.study_id, after_id=first[-1])] == [third]

    def test_points_are_counted_without_being_read(self, store: Store, lease: Lease) -> None:
        """Those that certify are not among them, nor those of other studies."""
        assert store.point_count(lease.study_id) == 0 and not store.has_latency(lease.study_id)
        store.add_points(lease, [make_point("aa00"), make_point("bb00")])
        store.add_certified_point(lease.study_id, make_point("aa00", split="certify"))
        assert store.point_count(lease.study_id) == 2 and not store.has_latency(lease.study_id)
        store.add_points(lease, [make_point("cc00", latency={"value": 1.0})])
        assert store.point_count(lease.study_id) == 3 and store.has_latency(lease.study_id)
        assert store.point_count(lease.study_id + 1) == 0
        assert not store.has_latency(lease.study_id + 1)

    def test_unstable_latency_is_on_no_frontier(self, store: Store, lease: Lease) -> None:
        """It is not a number that can be trusted."""
        store.add_points(lease, [make_point(latency={"value": 1.0, "verdict": "unstable"})])
        assert store.frontier(lease.study_id, "latency") == []
        assert store.frontier(lease.study_id, max_latency_ms=10.0) == []

    def test_frontier_answers_other_limits(self, store: Store, lease: Lease) -> None:
        """Cheapest first; limits are inclusive up to rounding; latency by its upper end."""
        store.add_points(
            lease,
            [
                make_point(
                    f"aa0{i}",
                    drop=round(0.92 - 0.01 * i, 2) - 0.90,
                    flops=1e9 * (i + 1),
                    flops_ratio=0.1 * (i + 1),
                    latency={"value": 10.0 * (i + 1), "high": 10.0 * (i + 1) + 4},
                )
                for i in range(4)
            ],
        )

        def keys(cost: str = "flops", **limits: float) -> list[str]:
            return [p.artifact_key for p in store.frontier(lease.study_id, cost, **limits)]

        assert keys() == ["aa00", "aa01", "aa02", "aa03"]
        assert keys(max_drop=0.01) == ["aa01", "aa02", "aa03"]
        assert keys(max_flops_ratio=0.3) == ["aa00", "aa01", "aa02"]
        assert keys(max_flops=2e9, max_drop=0.015) == ["aa01"]
        assert keys("latency", max_latency_ms=24.0) == ["aa00", "aa01"]
        assert keys("latency", max_latency_ms=23.9) == ["aa00"]
        assert keys(max_drop=-0.5) == []
        with pytest.raises(InvalidValueError, match="flops or latency"):
            keys("energy")

    def test_feasibility_is_judged_anew(self, store: Store, lease: Lease) -> None:
        """Only what changed is counted; flags stay as they are."""
        store.add_points(
            lease, [make_point(f"aa0{i}", drop=0.01 * i, flops=9.0 - i) for i in range(4)]
        )
        before = store.frontier(lease.study_id)
        assert store.refresh_feasible(lease, lambda point: point.drop <= 0.01) == 2
        assert store.refresh_feasible(lease, lambda point: point.drop <= 0.01) == 0
        rows = store.points(lease.study_id)
        assert [row.feasible for row in rows] == [True, True, False, False]
        assert [p.id for p in store.frontier(lease.study_id)] == [p.id for p in before]
