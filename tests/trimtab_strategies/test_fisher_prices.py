"""What units cost in time: the published fit, and prices as they stand in recipes."""

import numpy as np
import pytest

from trimtab_strategies.cost import EncoderShape
from trimtab_strategies.fisher.prices import Piecewise, Prices

SHAPE = EncoderShape(8, 2, (4, 4, 4), (32, 32, 32))
PRICES = Prices(
    Piecewise(2.0, 1.0, 1), Piecewise(3.0, 0.5, 1), Piecewise(0.5, 0.0, 4), Piecewise(0, 0, 1), 16
)


@pytest.mark.parametrize(
    ("measured", "fit"),
    [
        ([1, 1, 1, 2, 3, 4], Piecewise(1.0, 1.0, 3)),  # the published example
        ([2, 2, 2], Piecewise(2.0, 0.0, 1)),
        ([3], Piecewise(3.0, 0.0, 1)),
        ([3, 2, 1], Piecewise(2.0, 0.0, 3)),  # never falling
        ([1, 3, 5], Piecewise(1.0, 2.0, 1)),
        ([-1.0, -1.0], Piecewise(0.0, 0.0, 1)),  # noise about nothing is nothing
    ],
)
def test_the_nearest_fit_is_taken(measured, fit):
    assert Piecewise.fit(measured) == fit


def test_nothing_takes_no_time():
    fit = Piecewise(2.0, 0.5, 3)
    assert fit.of(np.arange(6)).tolist() == [0, 2, 2, 2, 2.5, 3]
    with pytest.raises(ValueError, match="at least one"):
        Piecewise.fit([])


@pytest.mark.parametrize("values", [(1.0, 1.0, 0), (-1.0, 1.0, 1), (1.0, float("nan"), 1)])
def test_a_fit_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match="threshold"):
        Piecewise(*values)


def test_an_evenly_sliced_model_pays_every_layers_level():
    # Heads 2+3 in two layers and 0.5 in the last; two blocks of filters 3.5, twice.
    assert PRICES.evenly(SHAPE, 1.0) == 2 * 5 + 0.5 + 2 * 3.5
    assert PRICES.evenly(SHAPE, 0.5) == 2 * 3 + 0.5 + 2 * 3  # two heads, one block
    assert PRICES.evenly(SHAPE, 0.0) == 0


def test_prices_are_told_as_shares_of_a_whole_model():
    shares = PRICES.relative_to(SHAPE)
    assert shares.evenly(SHAPE, 1.0) == pytest.approx(1.0, rel=1e-3)
    assert shares.heads.threshold == 1 and shares.block == 16
    assert shares.heads.level / shares.blocks.level == pytest.approx(2 / 3, rel=1e-3)


def test_prices_are_the_same_after_a_recipe_held_them():
    shares = PRICES.relative_to(SHAPE)
    assert Prices.parse(str(shares)) == shares
    assert len(str(shares)) < 80  # recipes are printed


@pytest.mark.parametrize("text", ["", "1/2/3 4/5/6 7/8/9 16", "a/1/1 " * 4 + "16", "1/1/0 " * 4])
def test_other_text_is_refused_by_what_prices_must_be(text):
    with pytest.raises(ValueError, match="four fits"):
        Prices.parse(text)
