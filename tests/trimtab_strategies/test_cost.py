"""The published and derived check values of the cost model, to the digit."""

import numpy as np
import pytest

from trimtab_strategies.cost import (
    EncoderShape,
    LengthHistogram,
    encoder_macs,
    encoder_macs_at,
    exit_macs,
    filter_macs,
    head_macs,
    layer_macs,
    mean_flops,
    token_counts,
    total_macs,
)

BERT = EncoderShape.dense(hidden_size=768, n_layers=12, n_heads=12, n_filters=3072)


def test_bert_base_encoder_at_128_tokens():
    assert encoder_macs(BERT, 128) == 11_173_625_856
    assert mean_flops(BERT, LengthHistogram({128: 7})) == 22_347_251_712


def test_bert_base_encoder_at_512_tokens():
    assert encoder_macs(BERT, 512) == 48_318_382_080


def test_linear_only_part_and_the_fastbert_baseline():
    linear_only = encoder_macs(BERT, 128) - 12 * 2 * 128 * 128 * 768
    fastbert_head = 128 * 768 * 128 + 4 * 128 * 128**2 + 128**2
    assert linear_only == 10_871_635_968
    assert fastbert_head == 20_987_904
    assert 2 * (linear_only + fastbert_head) == 21_785_247_744
    assert linear_only + fastbert_head + 768 * 0 == 10_892_623_872
    assert 10_892_623_872 + 2 * 128 == 10_892_624_128  # with the two-label layer


def test_head_and_filter_prices_add_up_to_the_encoder():
    assert head_macs(768, 64, 128) == 27_262_976
    assert filter_macs(768, 128) == 196_608
    assert encoder_macs(BERT, 128) == 144 * 27_262_976 + 36_864 * 196_608
    assert round(144 * 27_262_976 / encoder_macs(BERT, 128), 3) == 0.351
    assert round(head_macs(768, 64, 128) / filter_macs(768, 128)) == 139
    assert head_macs(768, 64, 30) / filter_macs(768, 30) == 130.5


def test_token_pruning_presets():
    assert layer_macs(768, 768, 3072, n_q=128, n_o=128, n_f=64) == 629_145_600
    assert layer_macs(768, 768, 3072, n_q=128, n_o=64, n_f=64) == 591_396_864


def test_context_contribution_profile_at_rate_four_fifths():
    kept = [102, 81, 64, 51, 40, 32, 25, 20, 16, 12, 9, 7]
    tokens = [(before, after, after) for before, after in zip([128, *kept], kept, strict=False)]
    macs = encoder_macs_at(BERT, tokens)
    assert macs == 3_530_711_040
    assert round(encoder_macs(BERT, 128) / macs, 3) == 3.165


def test_gpt2_small_layers_and_language_model_head():
    full = encoder_macs(BERT, 1024)
    assert full == 106_300_440_576
    # A strictly causal score matrix has n(n+1)/2 instead of n² cells.
    square, causal = 1024 * 1024, 1024 * 1025 // 2
    assert full - 12 * 2 * 768 * (square - causal) == 96_646_201_344
    assert 1024 * 768 * 50_257 == 39_523_713_024


@pytest.mark.parametrize(
    ("task", "mean_length", "gflops"),
    [("RTE", 64.59, 11.13), ("MRPC", 53.24, 9.15), ("QQP", 30.55, 5.22)],
)
def test_published_mean_lengths_predict_published_gflops(task, mean_length, gflops):
    n, d, width, filters = mean_length, 768, 768, 3072
    macs = 12 * (4 * n * d * width + 2 * n * n * width + 2 * n * d * filters)
    assert round(2 * macs / 1e9, 2) == gflops
    low = encoder_macs(BERT, int(mean_length))
    assert low < macs < encoder_macs(BERT, int(mean_length) + 1)


def test_a_sub_layer_with_nothing_left_costs_nothing():
    empty = EncoderShape(768, 64, (0, 12), (3072, 0))
    assert encoder_macs(empty, 128) == 3072 * 196_608 + 12 * 27_262_976
    assert encoder_macs(EncoderShape(768, 64, (0,), (0,)), 128) == 0


def test_the_mean_is_over_samples_not_over_lengths():
    histogram = LengthHistogram.from_lengths([10, 90, 90, 10])
    expected = encoder_macs(BERT, 10) + encoder_macs(BERT, 90)
    assert mean_flops(BERT, histogram) == expected
    assert mean_flops(BERT, histogram) > 2 * encoder_macs(BERT, 50)
    assert total_macs(BERT, histogram) == 2 * expected


def test_an_empty_workload_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        LengthHistogram.from_lengths([])


def test_a_shape_with_unequal_layers_is_refused():
    with pytest.raises(ValueError, match="same layers"):
        EncoderShape(768, 64, (1, 2), (3,))


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("ltp", [(9, 9, 7), (7, 7, 7), (7, 7, 2)]),
        ("acc", [(9, 7, 7), (7, 7, 7), (7, 2, 2)]),
    ],
)
def test_tokens_kept_by_one_layer_enter_the_next(placement, expected):
    assert token_counts(9, [7, 7, 2], placement) == expected


@pytest.mark.parametrize("placement", ["ltp", "acc"])
def test_keeping_every_token_costs_as_much_as_the_dense_encoder(seed, placement):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        n_layers, length = int(rng.integers(0, 13)), int(rng.integers(1, 600))
        heads, filters = rng.integers(0, 9, n_layers), rng.integers(0, 200, n_layers)
        shape = EncoderShape(64, 8, tuple(heads.tolist()), tuple(filters.tolist()))
        tokens = token_counts(length, [length] * n_layers, placement)
        assert encoder_macs_at(shape, tokens) == encoder_macs(shape, length)


def test_dropping_before_the_output_projection_saves_that_projection(seed):
    rng = np.random.default_rng(seed)
    kept = sorted(rng.integers(1, 128, 12).tolist(), reverse=True)
    later = encoder_macs_at(BERT, token_counts(128, kept, "ltp"))
    sooner = encoder_macs_at(BERT, token_counts(128, kept, "acc"))
    assert later - sooner == (128 - kept[-1]) * 768 * 768


@pytest.mark.parametrize("n_classes", [2, 5])
def test_fastbert_exit_without_label_layer_and_attention_products(n_classes):
    macs = exit_macs("attention", "first", 768, 128, n_classes, 128)
    assert macs - 2 * 128**2 * 128 - 128 * n_classes == 20_987_904


@pytest.mark.parametrize(
    ("kind", "read", "expected"),
    [
        ("linear", "first", 768 * 5),
        ("linear", "mean", 768 * 5),
        ("linear", "both", 1536 * 5),
        ("mlp", "first", 768 * 128 + 128 * 128 + 128 * 5),
        ("mlp", "mean", 768 * 128 + 128 * 128 + 128 * 5),
        ("mlp", "both", 1536 * 128 + 128 * 128 + 128 * 5),
    ],
)
def test_exits_that_read_one_vector_cost_the_same_at_any_length(kind, read, expected):
    assert exit_macs(kind, read, 768, 128, 5, 1) == expected
    assert exit_macs(kind, read, 768, 128, 5, 512) == expected


@pytest.mark.parametrize("kind", ["linear", "mlp", "attention"])
@pytest.mark.parametrize("read", ["first", "mean", "both"])
def test_exits_of_many_samples_at_once_equal_one_by_one(seed, kind, read):
    rng = np.random.default_rng(seed)
    n_tokens = rng.integers(1, 513, (20, 3))
    hidden_size, width, n_classes = (int(size) for size in rng.integers(2, 1024, 3))
    macs = exit_macs(kind, read, hidden_size, width, n_classes, n_tokens)
    assert macs.dtype == np.int64 and macs.shape == n_tokens.shape
    for count, each in zip(n_tokens.flat, macs.flat, strict=True):
        assert each == exit_macs(kind, read, hidden_size, width, n_classes, int(count))


def test_an_attention_exit_takes_no_notice_of_what_to_read():
    assert len({exit_macs("attention", r, 768, 128, 2, 40) for r in ("first", "mean", "both")}) == 1
