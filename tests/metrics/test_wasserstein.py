import jax
import numpy as np
import pytest
from scipy import optimize, stats
from scipy.spatial import distance

from fmjax.metrics import wasserstein


def test_translated_points_are_as_far_as_the_shift():
    x = np.random.default_rng(0).normal(size=(200, 2, 3))
    shift = np.full((2, 3), 0.5)
    y = (x + shift)[np.random.default_rng(1).permutation(200)]
    assert wasserstein.w2(x, y) == pytest.approx(np.linalg.norm(shift), rel=1e-9)


def test_one_dimension_is_the_sorted_difference(key):
    x = np.random.default_rng(0).normal(size=(300, 1))
    y = 2 * np.random.default_rng(1).normal(size=(300, 1)) + 1
    exact = np.sqrt(np.mean((np.sort(x, axis=0) - np.sort(y, axis=0)) ** 2))
    assert wasserstein.w2(x, y) == pytest.approx(exact, rel=1e-9)
    assert wasserstein.sliced_w2(key, x, y, projections=3) == pytest.approx(exact, rel=1e-6)


def test_normals_on_a_line_differ_by_mean_and_deviation():
    x = stats.norm.ppf((np.arange(200) + 0.5) / 200)[:, None]
    assert wasserstein.w2(x, 1 - 2 * x) == pytest.approx(np.sqrt(1 + 1), rel=5e-3)


def test_exact_plan_is_the_best_assignment():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(80, 5)), rng.uniform(size=(80, 5))
    cost = distance.cdist(x, y, "sqeuclidean")
    best = cost[optimize.linear_sum_assignment(cost)].mean()
    assert wasserstein.w2(x, y) == pytest.approx(np.sqrt(best), rel=1e-9)


def test_unequal_sizes_split_mass():
    assert wasserstein.w2(np.zeros((1, 1)), np.array([[1.0], [7.0]])) == pytest.approx(5)


def test_sliced_of_a_translation_is_the_shift_over_root_dimension(key):
    x = np.random.default_rng(0).normal(size=(50, 4))
    shift = np.array([2.0, 0, 0, 0])
    found = wasserstein.sliced_w2(key, x, x + shift, projections=20_000)
    assert found == pytest.approx(2 / np.sqrt(4), rel=0.02)


def test_sliced_agrees_with_pot_on_the_same_directions(key):
    import ot

    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 4)), rng.uniform(size=(60, 4))
    u = np.asarray(jax.random.normal(key, (4, 64)), np.float64)
    u /= np.linalg.norm(u, axis=0)
    theirs = ot.sliced_wasserstein_distance(x, y, projections=u)
    assert wasserstein.sliced_w2(key, x, y, projections=64) == pytest.approx(theirs, rel=1e-6)


def test_order_of_rows_does_not_matter(key):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    assert wasserstein.w2(x[::-1], y) == pytest.approx(wasserstein.w2(x, y), rel=1e-9)
    sliced = wasserstein.sliced_w2(key, x, y)
    assert wasserstein.sliced_w2(key, x[::-1], y) == pytest.approx(sliced, rel=1e-9)


def test_errors_name_the_shapes(key):
    with pytest.raises(ValueError, match="cannot be compared"):
        wasserstein.w2(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="3 and 4 rows"):
        wasserstein.sliced_w2(key, np.zeros((3, 2)), np.zeros((4, 2)))


def test_evaluator(key, normal, fresh, make_sample):
    good = wasserstein.wasserstein(None, key, normal, make_sample(fresh))
    assert good["w2"] == pytest.approx(wasserstein.w2(fresh[:200], normal.take("test", 200).x1))
    assert good["w2_squared"] == pytest.approx(good["w2"] ** 2)
    assert good["w2"] == pytest.approx(good["w2_floor"], rel=0.4)
    assert good["sliced_w2"] < good["w2"]
    assert (good["w2_n"], good["w2_projections"]) == (200, 512)
    bad = wasserstein.wasserstein(None, key, normal, make_sample(fresh + 3), n=100)
    assert bad["w2"] == pytest.approx(np.sqrt(18), rel=0.1)
    assert bad["sliced_w2"] == pytest.approx(3, rel=0.1)
    assert bad["w2_n"] == 100
    assert all(isinstance(value, float) for value in good.values())
