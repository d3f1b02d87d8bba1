"""Replayed curves against evaluating every setting, and costs against adding them up by hand."""

import dataclasses

import numpy as np
import pytest

from trimtab_strategies.cost import EncoderShape, encoder_macs, encoder_macs_at
from trimtab_strategies.records import Records
from trimtab_strategies.replay import (
    NOBODY,
    leaves_by_entropy,
    leaves_by_patience,
    leaving_macs,
    predictions_of,
    quantities_of,
    rows_by_length,
    sweep_entropy,
    sweep_patience,
    uncertainty,
)
from trimtab_workers.metrics import metric_of_counts, metric_value


def exit_price(tokens):
    return 7 * tokens + tokens * tokens


def random_shape(rng, n_layers):
    heads, filters = rng.integers(0, 5, n_layers), rng.integers(0, 9, n_layers)
    return EncoderShape(16, 4, tuple(heads.tolist()), tuple(filters.tolist()))


def random_records(rng, n_classes=None):
    n, n_layers = int(rng.integers(1, 12)), int(rng.integers(1, 7))
    n_classes = n_classes or int(rng.integers(2, 5))
    n_exits = int(rng.integers(0, n_layers))
    layers = sorted(rng.choice(n_layers - 1, n_exits, replace=False).tolist()) if n_exits else []
    lengths = rng.integers(1, 100, n)
    kept = np.minimum.accumulate(rng.integers(1, lengths[:, None] + 1, (n, n_layers)), axis=1)
    logits = rng.normal(size=(n, n_exits + 1, n_classes))
    if rng.random() < 0.5:  # ties, between samples and between exits of one
        logits = np.round(logits)
    return Records(
        lengths,
        kept,
        tuple(layers),
        logits[:, :-1],
        logits[:, -1],
        rng.integers(0, n_classes, n),
    )


def random_exits(rng, records):
    return [e for e in range(len(records.exit_layers)) if rng.random() < 0.6]


def random_quantities(rng, n, n_exits):
    return rng.integers(-(10**12), 10**12, (n, n_exits + 1, int(rng.integers(1, 4))))


def without(records, exits):
    """The records of a model that has only these exits."""
    return dataclasses.replace(
        records,
        exit_layers=tuple(records.exit_layers[e] for e in exits),
        exit_logits=records.exit_logits[:, exits],
    )


def sums_at(quantities, leaves):
    return sum(quantities[row, place] for row, place in enumerate(leaves.tolist()))


def patience_by_hand(row, patience, resets):
    """Where one sample leaves, told as the papers tell it."""
    counter = 0
    for place in range(len(row) - 1):
        if place > 0 and row[place] == row[place - 1]:
            counter += 1
        elif resets:
            counter = 0
        if counter >= patience:
            return place
    return len(row) - 1


# The entropy sweep


def test_the_entropy_sweep_equals_evaluating_every_threshold(seed):
    rng = np.random.default_rng(seed)
    for _ in range(150):
        n, n_exits = rng.integers(0, 9, 2).tolist()
        u = rng.random((n, n_exits))
        if rng.random() < 0.6:
            u = np.round(u * 4) / 4
        quantities = random_quantities(rng, n, n_exits)
        curve = sweep_entropy(u, quantities)
        settings = np.unique(np.r_[NOBODY, u.ravel()])
        assert set(curve.settings) <= set(settings)
        assert np.all(np.diff(curve.settings) > 0)
        assert curve.sums.dtype == np.int64
        for tau in (*settings, *(settings + 1e-9), 2.0):
            at = np.flatnonzero(curve.settings <= tau)[-1]
            expected = sums_at(quantities, leaves_by_entropy(u, tau))
            assert np.array_equal(curve.sums[at], np.broadcast_to(expected, curve.sums[at].shape))


def test_each_setting_of_the_entropy_sweep_is_another_outcome(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        u = np.round(rng.random((6, 5)) * 9) / 9
        curve = sweep_entropy(u, random_quantities(rng, 6, 5))
        outcomes = {leaves_by_entropy(u, tau).tobytes() for tau in (NOBODY, *np.unique(u))}
        assert {leaves_by_entropy(u, tau).tobytes() for tau in curve.settings} == outcomes
        assert len(curve.settings) == len(outcomes)


def test_a_threshold_below_zero_lets_nobody_leave_early():
    u = np.array([[0.0, 0.5], [0.0, 0.0]])
    assert leaves_by_entropy(u, NOBODY).tolist() == [2, 2]
    curve = sweep_entropy(u, np.arange(6).reshape(2, 3, 1))
    assert curve.settings.tolist() == [NOBODY, 0.0]
    assert curve.sums.tolist() == [[7], [3]]


def test_a_sample_leaves_at_its_threshold_and_at_the_first_exit_of_equal_ones():
    u = np.array([[0.5, 0.5, 0.2]])
    assert [leaves_by_entropy(u, tau).item() for tau in (0.1, 0.2, 0.4, 0.5)] == [3, 2, 2, 0]
    assert sweep_entropy(u, np.arange(4).reshape(1, 4, 1)).sums.tolist() == [[3], [2], [0]]


def test_without_exits_there_is_one_setting():
    curve = sweep_entropy(np.empty((3, 0)), np.ones((3, 1, 2), dtype=np.int64))
    assert (curve.settings.tolist(), curve.sums.tolist()) == ([NOBODY], [[3, 3]])
    curve = sweep_patience(np.zeros((3, 1), dtype=np.int64), np.ones((3, 1, 2), dtype=np.int64))
    assert (curve.settings.tolist(), curve.sums.tolist()) == ([1], [[3, 3]])


def test_sums_of_fractions_and_of_small_integers():
    u = np.array([[0.1], [0.2]])
    fractions = np.array([[[0.25], [1.5]], [[0.5], [2.0]]])
    assert sweep_entropy(u, fractions).sums.ravel().tolist() == [3.5, 2.25, 0.75]
    small = np.array([[[0], [200]], [[200], [0]]], dtype=np.uint8)
    assert sweep_entropy(u, small).sums.ravel().tolist() == [200, 0, 200]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1])
def test_uncertainties_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="finite and not negative"):
        sweep_entropy(np.array([[wrong]]), np.zeros((1, 2, 1)))


@pytest.mark.parametrize("shape", [(2, 2, 1), (1, 3, 1), (1, 2)])
def test_quantities_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="quantities must be"):
        sweep_entropy(np.zeros((1, 1)), np.zeros(shape))


# Patience


@pytest.mark.parametrize("resets", [True, False])
def test_patience_equals_a_plain_loop(seed, resets):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        n, n_exits = rng.integers(1, 8, 2).tolist()
        predictions = rng.integers(0, 2, (n, n_exits + 1))
        quantities = random_quantities(rng, n, n_exits)
        curve = sweep_patience(predictions, quantities, resets=resets)
        outcomes = []
        for patience in range(1, n_exits + 2):
            expected = [patience_by_hand(row, patience, resets) for row in predictions.tolist()]
            leaves = leaves_by_patience(predictions, patience, resets=resets)
            assert leaves.tolist() == expected
            at = min(patience, len(curve.settings)) - 1
            assert np.array_equal(curve.sums[at], sums_at(quantities, leaves))
            outcomes.append(tuple(expected))
        assert outcomes[len(curve.settings) - 1] == (n_exits,) * n
        assert curve.settings.tolist() == list(range(1, len(set(outcomes)) + 1))


def test_counting_agreements_with_and_without_a_reset():
    predictions = np.array([[1, 1, 0, 0, 1, 1, 1]])
    cumulative = leaves_by_patience(predictions, 2, resets=False).item()
    assert (cumulative + 1, predictions[0, cumulative]) == (4, 0)
    assert leaves_by_patience(predictions, 2).item() == 6
    assert leaves_by_patience(predictions, 1).item() == 1


def test_agreement_with_the_final_classifier_does_not_count():
    assert leaves_by_patience(np.array([[0, 1, 1]]), 1).item() == 2


def test_a_patience_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, but got 0"):
        leaves_by_patience(np.array([[0, 0]]), 0)


def test_predictions_without_the_final_classifier_are_refused():
    with pytest.raises(ValueError, match=r"predictions must be \[N, E'\+1\]"):
        leaves_by_patience(np.empty((3, 0), dtype=np.int64), 1)


# Costs


@pytest.mark.parametrize("placement", ["ltp", "acc"])
def test_leaving_macs_equal_adding_up_layers_and_exits(seed, placement):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        records = random_records(rng)
        exits = random_exits(rng, records)
        shape = random_shape(rng, records.kept.shape[1])
        macs = leaving_macs(shape, records, placement, exit_price, exits)
        assert (macs.dtype, macs.shape) == (np.int64, (len(records.lengths), len(exits) + 1))
        for row, length in enumerate(records.lengths.tolist()):
            kept = records.kept[row].tolist()
            pairs = list(zip([length, *kept[:-1]], kept, strict=True))
            tokens = [(q, q if placement == "ltp" else f, f) for q, f in pairs]
            layers = [*(records.exit_layers[e] for e in exits), len(kept) - 1]
            for place, layer in enumerate(layers):
                through = EncoderShape(16, 4, shape.heads[: layer + 1], shape.filters[: layer + 1])
                seen = layers[: min(place + 1, len(exits))]
                expected = encoder_macs_at(through, tokens[: layer + 1])
                assert macs[row, place] == expected + sum(exit_price(kept[x]) for x in seen)


def test_without_token_pruning_and_exits_the_cost_is_the_encoders():
    lengths = np.array([128, 512])
    bert = EncoderShape.dense(768, 12, 12, 3072)
    logits, labels = np.zeros((2, 1, 2)), np.array([0, 1])
    kept = np.tile(lengths[:, None], 12)
    records = Records(lengths, kept, (), logits[:, :0], logits[:, 0], labels)
    macs = leaving_macs(bert, records, "ltp", exit_price)
    assert macs.tolist() == [[encoder_macs(bert, 128)], [encoder_macs(bert, 512)]]


def test_a_subset_of_exits_equals_a_model_with_only_these(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        records = random_records(rng)
        exits = random_exits(rng, records)
        fewer = without(records, exits)
        shape = random_shape(rng, records.kept.shape[1])
        macs = leaving_macs(shape, records, "ltp", exit_price, exits)
        assert np.array_equal(macs, leaving_macs(shape, fewer, "ltp", exit_price))
        quantities = quantities_of(records, macs, exits)
        assert np.array_equal(quantities, quantities_of(fewer, macs))
        ours = sweep_entropy(uncertainty(records.exit_logits)[:, exits], quantities)
        theirs = sweep_entropy(uncertainty(fewer.exit_logits), quantities_of(fewer, macs))
        assert np.array_equal(ours.settings, theirs.settings)
        assert np.array_equal(ours.sums, theirs.sums)
        assert np.array_equal(predictions_of(records, exits), predictions_of(fewer))


def small_records(**changes):
    values = {
        "lengths": np.array([5, 3]),
        "kept": np.array([[5, 4, 2], [3, 3, 1]]),
        "exit_layers": (0, 1),
        "exit_logits": np.zeros((2, 2, 3)),
        "logits": np.zeros((2, 3)),
        "labels": np.array([0, 2]),
    }
    return Records(**(values | changes))


@pytest.mark.parametrize("exits", [[1, 0], [0, 0], [2], [-1]])
def test_exits_that_are_none_are_refused(exits):
    with pytest.raises(ValueError, match="exits must ascend within the 2 there are"):
        predictions_of(small_records(), exits)


def test_costs_that_do_not_fit_are_refused():
    shape, records = EncoderShape.dense(8, 3, 2, 4), small_records()
    with pytest.raises(ValueError, match="must have 3 layers, but got 2"):
        leaving_macs(EncoderShape.dense(8, 2, 2, 4), records, "ltp", exit_price)
    with pytest.raises(ValueError, match="placement must be ltp or acc"):
        leaving_macs(shape, records, "dense", exit_price)
    with pytest.raises(TypeError):
        leaving_macs(shape, records, "ltp", lambda tokens: tokens / 2)
    with pytest.raises(ValueError, match="macs must have shape"):
        quantities_of(records, np.zeros((2, 2), dtype=np.int64))


# Metrics


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_every_metric_follows_from_the_sums(seed, metric):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        records = random_records(rng)
        n_classes = records.logits.shape[1]
        macs = leaving_macs(random_shape(rng, records.kept.shape[1]), records, "acc", exit_price)
        u, predictions = uncertainty(records.exit_logits), predictions_of(records)
        curve = sweep_entropy(u, quantities_of(records, macs))
        for tau, sums in zip(curve.settings, curve.sums, strict=True):
            leaves = leaves_by_entropy(u, tau)[:, None]
            assert sums[0] == np.take_along_axis(macs, leaves, axis=1).sum()
            taken = np.take_along_axis(predictions, leaves, axis=1).ravel()
            right, predicted = sums[1 : 1 + n_classes], sums[1 + n_classes :]
            labelled = np.bincount(records.labels, minlength=n_classes)
            expected = metric_value(metric, taken, records.labels, n_classes)
            found = metric_of_counts(metric, right, predicted, labelled)
            assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "expected"), [((0.5, 0.5), 1.0), ((0.9, 0.1), 0.46900), ((0.7, 0.2, 0.1), 0.72985)]
)
def test_published_uncertainties(p, expected):
    for shift in (0.0, 1000.0, -1000.0):
        assert uncertainty(np.log(p) + shift) == pytest.approx(expected, abs=1e-5)


def test_uncertainties_stay_within_zero_and_one():
    certain, unsure = uncertainty(np.array([[1e4, -1e4, 0.0], [3.0, 3.0, 3.0]])).tolist()
    assert certain == 0 and 1 - 1e-12 < unsure <= 1
    assert uncertainty(np.zeros((4, 0, 2))).shape == (4, 0)
    with pytest.raises(ValueError, match="at least 2 classes, but got 1"):
        uncertainty(np.zeros((4, 1)))


# Records


def test_records_are_read_back_as_they_were_saved(seed, tmp_path):
    records = random_records(np.random.default_rng(seed))
    first, second = tmp_path / "records", tmp_path / "again.npz"
    records.save(first)
    loaded = Records.load(first)
    for field in dataclasses.fields(Records):
        ours, theirs = getattr(records, field.name), getattr(loaded, field.name)
        assert type(ours) is type(theirs) and np.array_equal(ours, theirs)
    loaded.save(second)
    assert first.read_bytes() == second.read_bytes()


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"no records")
    with pytest.raises(ValueError, match="must be a file of records"):
        Records.load(path)
    small_records().save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="must be a file of records"):
        Records.load(path)
    for save, values in ((np.save, np.zeros(3)), (np.savez, np.array([{}]))):
        with path.open("wb") as file:
            save(file, values)
        with pytest.raises(ValueError, match="must be a file of records"):
            Records.load(path)
    with pytest.raises(OSError):
        Records.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": np.array([[5, 3]])}, "lengths must be int64 of shape"),
        ({"lengths": np.array([5.0, 3.0])}, "lengths must be int64"),
        ({"kept": np.array([5, 3])}, "kept must be int64 of shape"),
        ({"kept": np.empty((2, 0), dtype=np.int64)}, "kept must be .* not empty"),
        ({"kept": np.array([[5, 4, 4], [4, 3, 1]])}, "kept must be at most lengths"),
        ({"kept": np.array([[5, 2, 4], [3, 3, 1]])}, "never rise"),
        ({"kept": np.array([[5, 4, 0], [3, 3, 1]])}, "stay at 1 or more"),
        ({"exit_layers": (0,)}, "exit_logits must be float64 of shape"),
        ({"exit_layers": (1, 0)}, "exit_layers must ascend"),
        ({"exit_layers": (0, 2)}, "stay below the last layer, 2"),
        ({"exit_layers": (-1, 0)}, "exit_layers must ascend from 0"),
        ({"exit_logits": np.zeros((2, 2, 2))}, "exit_logits must be float64 of shape"),
        ({"exit_logits": np.full((2, 2, 3), np.nan)}, "exit_logits must be finite"),
        ({"logits": np.zeros((2, 3), dtype=np.float32)}, "logits must be float64"),
        ({"logits": np.full((2, 3), np.inf)}, "logits must be finite"),
        ({"logits": np.zeros((2, 0)), "exit_logits": np.zeros((2, 2, 0))}, "not empty"),
        ({"labels": np.array([0])}, "labels must be int64 of shape"),
        ({"labels": np.array([0, 3])}, "labels must be from 0 to 2"),
        ({"labels": np.array([0, -1])}, "labels must be from 0 to 2"),
    ],
)
def test_records_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_records(**changes)


def test_buckets_of_length_include_their_ends():
    marks = rows_by_length(np.array([1, 35, 36, 70, 71, 512]))
    assert [np.flatnonzero(rows).tolist() for rows in marks] == [[0, 1], [2, 3], [4, 5]]
