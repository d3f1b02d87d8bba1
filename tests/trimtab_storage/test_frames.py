from __future__ import annotations

from trimtab_storage import Lease, Store, points_frame, trials_frame
from trimtab_storage.testing import complete, make_point, make_recipe


def test_points_frame_has_a_line_a_point(store: Store, lease: Lease) -> None:
    latency = {"value": 7.5, "high": 8.0}
    store.add_points(lease, [make_point("aa00"), make_point("bb00", latency=latency)])
    frame = points_frame(store.points(lease.study_id))
    assert list(frame["artifact_key"]) == ["aa00", "bb00"]
    assert frame["latency_ms"].isna().tolist() == [True, False]
    assert frame["latency_ms"][1] == 7.5
    assert frame["latency"][1] == latency
    assert frame["recipe"][0] == make_recipe(0)
    assert str(frame["created_at"].dt.tz) == "UTC"


def test_trials_frame_has_a_line_a_trial(store: Store, lease: Lease) -> None:
    complete(store, lease, 0)
    store.add_trial(lease, make_recipe(1), "recipe-1")
    frame = trials_frame(store.trials(lease.study_id))
    assert list(frame["state"]) == ["complete", "waiting"]
    assert frame["seconds"][0] == 2.0
    assert frame["finished_at"].isna().tolist() == [False, True]


def test_empty_frames_have_the_same_columns(store: Store, lease: Lease) -> None:
    complete(store, lease, 0)
    for make, rows in (
        (points_frame, store.points(lease.study_id)),
        (trials_frame, store.trials(lease.study_id)),
    ):
        empty, full = make([]), make(rows)
        assert len(empty) == 0
        assert list(empty.columns) == list(full.columns)
        assert list(empty["created_at"].dt.year) == []
