import math

import numpy as np
import pytest

from trimtab_strategies.ltp._thresholds import linear_thresholds


def test_the_third_of_twelve_layers_has_a_quarter_of_the_last():
    thresholds = linear_thresholds(0.01, 12)
    assert thresholds[2] == pytest.approx(0.0025)
    assert thresholds[-1] == pytest.approx(0.01)


def test_thresholds_rise_in_equal_steps_from_one_step_above_zero(seed):
    rng = np.random.default_rng(seed)
    last, n_layers = float(rng.uniform(1e-4, 0.1)), int(rng.integers(1, 25))
    thresholds = linear_thresholds(last, n_layers)
    assert len(thresholds) == n_layers
    assert np.diff([0.0, *thresholds]) == pytest.approx(last / n_layers)


def test_thresholds_may_be_negative_or_nothing():
    assert linear_thresholds(-1.0, 2) == [-0.5, -1.0]
    assert linear_thresholds(0.0, 2) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("last", "n_layers", "message"),
    [(math.nan, 3, "finite"), (math.inf, 3, "finite"), (0.01, 0, "at least one layer")],
)
def test_bad_arguments_are_refused(last, n_layers, message):
    with pytest.raises(ValueError, match=message):
        linear_thresholds(last, n_layers)
