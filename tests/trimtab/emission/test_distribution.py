"""The spread of times: counted over the same bins, and drawn so that one sees who is faster."""

from __future__ import annotations

import pytest

from trimtab.emission._distribution import N_BINS, distribution_of, drawn

SAMPLES = {
    "ours": [[1.0, 1.0, 9.0]] * 60 + [[2.0, 2.0, 2.0]] * 40,
    "baseline": [[4.0, 4.1, 4.2]] * 99 + [[50.0, 50.0, 50.0]],
}


def test_every_request_counts_once_by_what_it_usually_took() -> None:
    found = distribution_of(SAMPLES)
    assert (found["low_ms"], found["high_ms"]) == (1.0, 4.1)
    assert sum(found["ours"]) == sum(found["baseline"]) == 100
    assert found["ours"][0] == 60 and found["baseline"][-1] == 100, "the slowest is in the last"
    assert len(found["ours"]) == len(found["baseline"]) == N_BINS


def test_the_picture_is_as_wide_for_both_and_higher_where_there_are_more() -> None:
    fence, baseline, ours, scale, end = drawn(distribution_of(SAMPLES)).split("\n")
    assert (fence, end) == ("```text", "```")
    assert len(baseline) == len(ours) == len(scale)
    assert baseline.startswith("baseline ") and baseline.endswith("█")
    assert ours.startswith("this checkpoint  █") and ours.count("▆") == 1
    assert scale.strip().startswith("1 ms") and scale.endswith("4.1 ms")


@pytest.mark.parametrize("ms", [0.5, 3.0])
def test_times_that_are_all_alike_are_drawn_too(ms: float) -> None:
    found = distribution_of({"ours": [[ms]] * 3, "baseline": [[ms]] * 3})
    assert found["ours"][0] == 3 and "█" in drawn(found)
