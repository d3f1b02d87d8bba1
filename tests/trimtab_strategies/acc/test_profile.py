"""The arithmetic of attention context contribution, against published and derived values."""

import math

import numpy as np
import pytest

from trimtab_strategies.acc._cost import acc_macs, acc_total_macs, scale_for
from trimtab_strategies.acc._profile import keep_shares, kept_counts, kept_counts_of
from trimtab_strategies.acc.published import speedup
from trimtab_strategies.cost import EncoderShape, LengthHistogram, encoder_macs, total_macs

BERT = EncoderShape.dense(hidden_size=768, n_layers=12, n_heads=12, n_filters=3072)
FOUR_FIFTHS = [0.8] * 12


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


def random_shares(rng):
    return [float(share) for share in rng.uniform(0.3, 1.0, rng.integers(1, 13))]


def random_shape(rng, n_layers):
    heads, filters = rng.integers(0, 9, n_layers), rng.integers(0, 200, n_layers)
    return EncoderShape(
        int(rng.integers(8, 200)), 8, tuple(heads.tolist()), tuple(filters.tolist())
    )


# Shares from medians


def test_medians_on_a_parabola_give_the_ratios_of_its_values():
    curve = [1.0 - 0.02 * layer - 0.004 * layer**2 for layer in range(13)]
    expected = [after / before for before, after in zip(curve, curve[1:], strict=False)]
    assert keep_shares(curve[1:]) == pytest.approx(expected)


def test_the_fit_is_the_one_of_least_squares(rng):
    medians = rng.uniform(0.6, 1.0, rng.integers(3, 25))
    layers = np.arange(len(medians) + 1)
    powers = np.stack([layers**0, layers, layers**2], axis=1).astype(float)
    solution = np.linalg.solve(powers[1:].T @ powers[1:], powers[1:].T @ medians)
    fit = np.maximum(powers @ solution, 1e-3)
    expected = np.minimum(1, fit[1:] / fit[:-1])
    assert keep_shares(medians) == pytest.approx(expected, rel=1e-6)


def test_shares_are_above_nothing_and_at_most_everything(rng):
    for _ in range(200):
        shares = keep_shares(rng.exponential(size=rng.integers(1, 25)))
        assert all(0 < share <= 1 for share in shares)


def test_level_medians_keep_every_token():
    for n_layers in range(1, 25):
        assert kept_counts(keep_shares([0.7] * n_layers), 4096) == [4096] * n_layers


def test_few_layers_are_fitted_by_what_they_determine():
    assert keep_shares([0.6]) == [1.0]
    assert keep_shares([0.8, 0.6]) == pytest.approx([0.8, 0.75])


def test_a_fit_below_zero_is_held_above_it():
    assert keep_shares([1.0, 0.0]) == pytest.approx([0.5, 1e-3])
    assert keep_shares([0.0, 0.4]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("medians", "message"),
    [
        ([], "for each layer"),
        ([0.9, math.nan, 0.8], "finite"),
        ([0.9, math.inf, 0.8], "finite"),
        ([0.9, -0.1, 0.8], "not negative"),
    ],
)
def test_bad_medians_are_refused(medians, message):
    with pytest.raises(ValueError, match=message):
        keep_shares(medians)


# Counts from shares


def test_four_fifths_of_128_tokens_layer_by_layer():
    expected = [102, 81, 64, 51, 40, 32, 25, 20, 16, 12, 9, 7]
    assert kept_counts(FOUR_FIFTHS, 128) == expected


def test_a_product_just_under_a_whole_number_loses_no_token():
    assert 0.29 * 100 < 29
    assert kept_counts([0.29], 100) == [29]


def test_the_scale_multiplies_shares_up_to_one():
    assert kept_counts([0.5, 0.5], 100, scale=1.2) == [60, 36]
    assert kept_counts([0.5, 0.8], 100, scale=1.5) == [75, 75]
    assert kept_counts([0.5, 0.5], 100, scale=0) == [1, 1]


def test_counts_never_rise_and_at_least_one_token_stays(rng):
    for _ in range(200):
        length, scale = int(rng.integers(1, 600)), float(rng.uniform(0, 2))
        counts = [length, *kept_counts(random_shares(rng), length, scale)]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] >= 1


def test_a_larger_scale_keeps_no_fewer_tokens(rng):
    lengths = np.arange(1, 600)
    for _ in range(100):
        shares = random_shares(rng)
        low, high = sorted(rng.uniform(0, 2, 2))
        assert np.all(kept_counts_of(shares, lengths, low) <= kept_counts_of(shares, lengths, high))


def test_many_lengths_at_once_equal_one_by_one(rng):
    shares, scale = random_shares(rng), float(rng.uniform(0.8, 1.2))
    for length in range(1, 300):
        count, expected = length, []
        for share in shares:
            count = min(count, max(1, math.floor(share * scale * count + 1e-9)))
            expected.append(count)
        assert kept_counts_of(shares, [300, length], scale)[:, 1].tolist() == expected
        assert kept_counts(shares, length, scale) == expected


@pytest.mark.parametrize(
    ("shares", "length", "scale", "message"),
    [
        ([], 5, 1.0, "for each layer"),
        ([0.5, 0.0], 5, 1.0, "finite and positive"),
        ([0.5, math.nan], 5, 1.0, "finite and positive"),
        ([0.5], 0, 1.0, "at least one token"),
        ([0.5], 5, -0.1, "scale"),
        ([0.5], 5, math.nan, "scale"),
    ],
)
def test_bad_shares_lengths_and_scales_are_refused(shares, length, scale, message):
    with pytest.raises(ValueError, match=message):
        kept_counts(shares, length, scale)


# Speed-up and costs


@pytest.mark.parametrize(("share", "expected"), [(0.8, 3.0319), (0.9, 1.8079), (0.95, 1.3562)])
def test_equation_7_in_twelve_layers(share, expected):
    assert round(speedup([share] * 12), 4) == expected
    assert speedup([share / 2] * 12, scale=2) == pytest.approx(speedup([share] * 12))
    assert speedup([share] * 12, scale=2) == 1


def linear_tokens(shares, length, scale):
    """Tokens that the linear layers see, a quarter of the weights before the drop (equation 5)."""
    counts = [length, *kept_counts(shares, length, scale)]
    return sum(before + 3 * after for before, after in zip(counts, counts[1:], strict=False)) / 4


@pytest.mark.parametrize(("length", "expected"), [(128, 3.139), (256, 3.084), (512, 3.062)])
def test_whole_counts_come_out_a_little_faster_than_equation_7(length, expected):
    assert round(12 * length / linear_tokens(FOUR_FIFTHS, length, 1.0), 3) == expected


def test_equation_7_is_the_linear_part_of_the_cost_but_for_rounding(rng):
    """Bounds: a floor loses less than one token a layer, and the last token is never lost.

    So -l < T_l - T·a_1⋯a_l <= 1; summed as in equation 5, that is L(2L + 1)/4 tokens below and L
    above.
    """
    for _ in range(200):
        shares, scale = random_shares(rng), float(rng.uniform(0.7, 1.3))
        length, n_layers, d = int(rng.integers(1, 600)), len(shares), 64
        shape = EncoderShape.dense(d, n_layers, 4, 4 * d)
        counts = [length, *kept_counts(shares, length, scale)]
        quadratic = sum(2 * before**2 * d for before in counts[:-1])
        tokens = (acc_macs(shape, shares, length, scale) - quadratic) / (12 * d * d)
        assert tokens == pytest.approx(linear_tokens(shares, length, scale))
        above = tokens - length * n_layers / speedup(shares, scale)
        assert -n_layers * (2 * n_layers + 1) / 4 <= above <= n_layers


def test_bert_base_at_four_fifths():
    macs = acc_macs(BERT, FOUR_FIFTHS, 128)
    assert macs == 3_530_711_040
    assert round(encoder_macs(BERT, 128) / macs, 3) == 3.165


def test_keeping_everything_costs_as_much_as_the_dense_encoder(rng):
    for _ in range(50):
        shape, length = random_shape(rng, int(rng.integers(1, 13))), int(rng.integers(1, 600))
        assert acc_macs(shape, [1.0] * shape.n_layers, length) == encoder_macs(shape, length)
        shares = rng.uniform(0.3, 1.0, shape.n_layers).tolist()
        assert acc_macs(shape, shares, length, scale=4) == encoder_macs(shape, length)


def test_a_workload_costs_the_sum_of_its_samples(rng):
    shares = random_shares(rng)
    shape, lengths = random_shape(rng, len(shares)), rng.integers(1, 200, 80).tolist()
    histogram = LengthHistogram.from_lengths(lengths)
    expected = sum(acc_macs(shape, shares, length, 0.9) for length in lengths)
    assert acc_total_macs(shape, shares, histogram, 0.9) == expected
    assert acc_total_macs(shape, [1.0] * len(shares), histogram) == total_macs(shape, histogram)


def test_a_workload_too_large_for_64_bits_is_still_exact():
    one = acc_macs(BERT, FOUR_FIFTHS, 128)
    total = acc_total_macs(BERT, FOUR_FIFTHS, LengthHistogram({128: 10**12}))
    assert total == one * 10**12 > 2**63


def test_shares_for_another_number_of_layers_are_refused():
    with pytest.raises(ValueError, match="each of the 12 layers"):
        acc_macs(BERT, [0.8] * 11, 128)


# The scale for a cost


def test_the_scale_found_is_the_largest_within_the_cost(rng):
    for _ in range(20):
        shares = random_shares(rng)
        shape = EncoderShape.dense(64, len(shares), 4, 256)
        histogram = LengthHistogram.from_lengths(rng.integers(2, 100, 30).tolist())
        cheapest = acc_total_macs(shape, shares, histogram, 0)
        wanted = float(rng.uniform(cheapest, total_macs(shape, histogram)))

        def cost_of(scale, shape=shape, shares=shares, histogram=histogram):
            return acc_total_macs(shape, shares, histogram, scale)

        scale = scale_for(shares, cost_of, wanted)
        assert cost_of(scale) <= wanted < cost_of(scale + 1e-9)


def test_equation_7_is_met_by_its_scale():
    scale = scale_for(FOUR_FIFTHS, lambda scale: 1 / speedup(FOUR_FIFTHS, scale), 1 / 2)
    assert speedup(FOUR_FIFTHS, scale) == pytest.approx(2)


def test_a_cost_that_nothing_exceeds_gives_the_highest_scale():
    shares = [0.5, 0.8]
    assert scale_for(shares, lambda scale: min(scale, 2.0), 2) == 2
    assert scale_for(shares, lambda scale: scale, 5, low=0.85, high=1.2) == 1.2
    assert kept_counts(shares, 512, scale_for(shares, lambda scale: 0, 0)) == [512, 512]


@pytest.mark.parametrize(
    ("wanted", "low", "high", "message"),
    [
        (0.5, 0.85, 1.2, "at least 0.85"),
        (math.nan, 0.85, 1.2, "at least 0.85"),
        (1.0, 1.2, 0.85, "range"),
        (1.0, -1.0, 1.2, "range"),
    ],
)
def test_a_cost_out_of_reach_or_an_empty_range_is_refused(wanted, low, high, message):
    with pytest.raises(ValueError, match=message):
        scale_for([0.8], lambda scale: scale, wanted, low, high)
