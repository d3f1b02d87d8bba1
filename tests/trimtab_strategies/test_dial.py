"""The dial of a checkpoint: the measured settings of its knobs."""

import pytest

POINTS = [
    {"flops_ratio": 0.5, "drop": 0.001, "metric": 0.9},
    {"flops_ratio": 0.4, "drop": 0.004, "metric": 0.897, "latency_ms": 6.5},
    {"flops_ratio": 0.3, "drop": 0.02, "metric": 0.881, "latency_ms": 5.0},
]


@pytest.fixture
def dial(model):
    model.config.operating_points = POINTS
    return model


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 0),
        ({"max_flops": 0.45}, 1),
        ({"max_flops": 0.3}, 2),
        ({"max_drop": 0.01}, 0),
        ({"max_flops": 0.4, "max_drop": 0.004}, 1),
        ({"max_flops": 1}, 0),
        ({"max_latency_ms": 7.0}, 1),
        ({"max_latency_ms": 5.0}, 2),
        ({"max_latency_ms": 9.0, "max_flops": 0.35}, 2),
    ],
)
def test_the_least_drop_within_the_limits_is_chosen(dial, limits, expected):
    chosen = dial.set_operating_point(**limits)
    assert chosen == POINTS[expected]
    chosen["drop"] = 9
    assert dial.config.operating_points == POINTS


def test_limits_that_no_point_meets_name_the_points_there_are(dial):
    with pytest.raises(ValueError, match=r"0\.300 at drop 0\.0200"):
        dial.set_operating_point(max_flops=0.2)
    with pytest.raises(ValueError, match=r"0\.300 at drop 0\.0200 and 5 ms"):
        dial.set_operating_point(max_latency_ms=4.9)
    dial.config.operating_points = []
    with pytest.raises(ValueError, match=r"\(none\)"):
        dial.set_operating_point(max_drop=1.0)


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), True, "0.5"])
@pytest.mark.parametrize("name", ["max_flops", "max_drop", "max_latency_ms"])
def test_a_limit_must_be_a_finite_number(dial, name, limit):
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        dial.set_operating_point(**{name: limit})
