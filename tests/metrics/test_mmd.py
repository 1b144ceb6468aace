import numpy as np
import pytest

from fmjax.metrics import mmd


def test_tiny_sets_by_hand():
    x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]])

    def k(d, s):
        return np.exp(-(d**2) / (2 * s**2))

    def by_hand(s):
        return k(1, s) + k(3, s) - 2 * (k(0, s) + k(3, s) + k(1, s) + k(2, s)) / 4

    assert mmd.mmd2(x, y, bandwidths=2.0) == pytest.approx(by_hand(2))
    mean = (by_hand(0.5) + by_hand(2)) / 2
    assert mmd.mmd2(x, y, bandwidths=(0.5, 2.0)) == pytest.approx(mean)


def test_default_bandwidth_is_the_median_of_the_pooled_distances():
    x, y = np.array([[0.0], [1.0]]), np.array([[3.0], [7.0]])
    # Pooled distances: 1, 3, 7, 2, 6, 4.
    assert mmd.median_distance(np.concatenate([x, y])) == 3.5
    assert mmd.mmd2(x, y) == mmd.mmd2(x, y, bandwidths=3.5)


def test_mean_is_zero_for_equal_distributions(fresh):
    pairs = fresh[:4000].reshape(100, 2, 20, 2)
    found = [mmd.mmd2(x, y, bandwidths=1.0) for x, y in pairs]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / 10)
    assert min(found) < 0 < max(found)


def test_shifted_normals_have_their_closed_form():
    # X - X' ~ N(0, 2), so E k = s / sqrt(s² + 2) times exp(-m² / (2 (s² + 2))) for a shift m.
    x = np.random.default_rng(0).normal(size=(2000, 1))
    y = np.random.default_rng(1).normal(size=(2000, 1)) + 2
    exact = 2 / np.sqrt(3) * (1 - np.exp(-4 / 6))
    assert mmd.mmd2(x, y, bandwidths=1.0) == pytest.approx(exact, abs=0.03)


def test_far_sets_of_copies_reach_two():
    x = np.zeros((5, 2))
    assert mmd.mmd2(x, x + 1e3, bandwidths=1.0) == pytest.approx(2)


def test_order_of_rows_does_not_matter(fresh):
    x, y = fresh[:50], fresh[50:120]
    assert mmd.mmd2(x[::-1], y) == pytest.approx(mmd.mmd2(x, y), rel=1e-9)


def test_median_of_every_other_row():
    x = np.arange(10.0)[:, None]
    assert mmd.median_distance(x, most=5) == mmd.median_distance(x[::2])


def test_errors_say_what_is_missing():
    with pytest.raises(ValueError, match="1 and 3 rows"):
        mmd.mmd2(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="cannot be compared"):
        mmd.mmd2(np.zeros((3, 2)), np.zeros((3, 3)))
    for rows in (np.ones((4, 2)), np.ones((1, 2))):
        with pytest.raises(ValueError, match="no bandwidth"):
            mmd.median_distance(rows)


def test_evaluator_separates_shifted_rows_with_a_bandwidth_of_real_rows(
    key, normal, fresh, make_sample
):
    good = mmd.mmd(None, key, normal, make_sample(fresh))
    bad = mmd.mmd(None, key, normal, make_sample(fresh + 2))
    assert abs(good["mmd2"]) < 0.02
    assert abs(good["mmd2_floor"]) < 0.02
    assert bad["mmd2"] > 0.3
    assert bad["mmd_bandwidth"] == good["mmd_bandwidth"]
    assert good["mmd_bandwidth"] == mmd.median_distance(normal.take("test", 200).x1)
    assert good["mmd_n"] == 200
    assert all(isinstance(value, float) for value in good.values())
