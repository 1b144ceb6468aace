import jax
import numpy as np
import pytest
from scipy.spatial import distance

from fmjax import types
from fmjax.metrics import _common


def test_distances_in_blocks_are_those_in_one_piece():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 3)), rng.normal(size=(7, 3))
    blocks = list(_common.distances(x, y, entries=30))
    assert len(blocks) == 6
    np.testing.assert_array_equal(np.concatenate([d for _, d in blocks]), distance.cdist(x, y))
    np.testing.assert_array_equal(np.concatenate([x[rows] for rows, _ in blocks]), x)


def test_copies_are_at_distance_zero_however_far_from_the_origin():
    x = 1e6 + np.random.default_rng(0).normal(size=(50, 64))
    assert _common.nearest(x, x[::-1]).max() == 0


def test_mean_over_pairs_counts_every_pair():
    x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [3.0], [5.0]])
    assert _common.mean_over_pairs(lambda d: d, x, y) == pytest.approx((0 + 3 + 5 + 1 + 2 + 4) / 6)


def test_flat_refuses_no_rows_and_rows_that_are_not_finite():
    with pytest.raises(ValueError, match=r"shape \(0, 2\)"):
        _common.flat(np.zeros((0, 2)))
    x = np.zeros((3, 2))
    x[1, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 3 rows are not finite"):
        _common.flat(x)


def test_pair_refuses_examples_of_two_shapes():
    with pytest.raises(ValueError, match=r"shape \(2,\) cannot be compared .* \(3,\)"):
        _common.pair(np.zeros((4, 2)), np.zeros((4, 3)))


def test_count_is_at_most_the_split_and_2048_without_end(make_data):
    rows = np.zeros((10, 2), np.float32)
    data = make_data({"train": (rows, None), "test": (rows, None)}, unlimited=("train",))
    assert _common.count(data, "test", None) == 10
    assert _common.count(data, "test", 4) == 4
    assert _common.count(data, "test", 40) == 10
    assert _common.count(data, "train", None) == 2048
    assert _common.count(data, "train", 40) == 40
    with pytest.raises(ValueError, match=r"no split 'valid': the data has \['test', 'train'\]"):
        _common.count(data, "valid", None)
    with pytest.raises(ValueError, match="n = 0 rows"):
        _common.count(data, "test", 0)


def test_a_sampler_of_too_few_rows_is_an_error(make_sample):
    with pytest.raises(ValueError, match="for 5 examples, got 3"):
        _common.generated(make_sample(np.zeros((3, 2))), 5)


def test_reference_draws_have_no_row_twice_and_follow_the_key(key, make_data):
    rows = np.arange(50.0)[:, None]
    data = make_data({"train": (rows, None), "test": (rows, None)})
    one = list(_common.reference_draws(key, data, "test", "train", 30, 4))
    assert [len(np.unique(draw)) for draw in one] == [30] * 4
    assert not np.array_equal(one[0], one[1])
    again = list(_common.reference_draws(key, data, "test", "train", 30, 4))
    np.testing.assert_array_equal(one, again)
    other = list(_common.reference_draws(jax.random.key(1), data, "test", "train", 30, 4))
    assert not np.array_equal(one, other)


def test_reference_draws_of_an_unlimited_split_share_no_row(key, make_data):
    rows = np.arange(60.0)[:, None]
    data = make_data({"train": (rows, None), "test": (rows, None)}, unlimited=("train",))
    draws = list(_common.reference_draws(key, data, "test", "train", 15, 4))
    np.testing.assert_array_equal(np.concatenate(draws), rows)


def test_reference_draws_refuse_the_split_itself_and_too_many_rows(key, normal):
    with pytest.raises(ValueError, match="cannot be its own reference"):
        next(_common.reference_draws(key, normal, "test", "test", 10, 1))
    with pytest.raises(ValueError, match="draw of 6001 rows from 'train', which has 6000"):
        next(_common.reference_draws(key, normal, "test", "train", 6001, 1))


@pytest.mark.parametrize("cond", [None, np.zeros(3, np.float32), np.zeros((3, 2), np.int32)])
def test_labels_refuse_conditions_that_are_not_classes(cond):
    with pytest.raises(ValueError, match="needs one integer label an example"):
        _common.labels(types.Batch(x1=np.zeros((3, 2)), cond=cond))


def test_the_classifier_is_fitted_once_for_a_data_set(digits):
    assert _common.classifier(digits) is _common.classifier(digits._replace(null=-1))


def test_classifier_features_are_the_layer_below_the_logits(digits):
    judge, rows = _common.classifier(digits), digits.take("test", 50).x1
    features = _common.classifier_features(digits, rows)
    assert features.shape == (50, 64)
    assert features.min() == 0
    assert features.max() > 0
    # Equal features must mean equal labels: the label is a function of them.
    assert np.array_equal(judge.predict(rows), judge.predict(rows.reshape(50, 64)))
