"""Parts of a latency say themselves what they are of, so that no other limit takes them for its."""

from __future__ import annotations

from typing import Any

import pytest

from trimtab._parts import doubts_of, joined_as, named_part, parts_of, without_names
from trimtab_workers.latency.asked import Asked
from trimtab_workers.latency.workload import Workload

ASKED = (
    Asked("p95", Workload()),
    Asked("p95", Workload(threads=4)),
    Asked("p50", Workload(threads=4), is_relative=True),
    Asked("p95", Workload(lengths=(16, 64)), is_relative=True),
)
TIMED = [{"value": 1.0 + n, "verdict": "stable", "threads": 4} for n in range(len(ASKED))]


def test_each_part_is_found_wherever_it_lies() -> None:
    parts = parts_of(joined_as(TIMED, ASKED))
    for order in (parts, parts[::-1]):
        for asked, own in zip(ASKED, TIMED, strict=True):
            found = named_part(order, asked)
            assert found is not None and found["value"] == own["value"]
            assert without_names(found) == {
                **own,
                "statistic": asked.statistic,
                "batch_size": 1,
            }
    assert named_part(parts, Asked("p95", Workload(batch_size=2))) is None


def test_the_same_times_serve_another_statistic() -> None:
    asked = (Asked("mean", Workload()), Asked("p50", Workload()))
    parts = parts_of(joined_as(TIMED[:2], asked))
    median = named_part(parts, Asked("p95", Workload()), "p50")
    assert median is not None and median["statistic"] == "p50"
    first = named_part(parts, Asked("p95", Workload()), "p95")
    assert first is not None and first["statistic"] == "mean"


@pytest.mark.parametrize("wrong", [{"batch_size": 8}, {"statistic": "mean"}])
def test_a_part_of_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be .* as its limit says"):
        joined_as([TIMED[0], {**TIMED[1], **wrong}], ASKED[:2])


def test_a_part_alone_is_given_no_names() -> None:
    assert joined_as(TIMED[:1], ASKED[1:2]) == TIMED[0]


def test_doubts_say_what_they_are_of_where_there_are_several() -> None:
    doubtful = {"statistic": "p95", "batch_size": 1, "verdict": "unstable", "reason": "noise"}
    sure = {"statistic": "p50", "batch_size": 8, "verdict": "stable"}
    assert (doubts_of(doubtful), doubts_of(sure)) == ("noise", "")
    assert doubts_of({**sure, "others": [doubtful]}) == "p95 at batch 1: noise"
    other = {**doubtful, "batch_size": 2, "reason": "others were at work"}
    assert doubts_of({**doubtful, "others": [sure, other]}) == (
        "p95 at batch 1: noise; p95 at batch 2: others were at work"
    )
