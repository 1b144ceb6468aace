import numpy as np
import pytest
from scipy import linalg

from fmjax.metrics import _common, frechet


def test_equal_covariances_leave_the_means():
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    found = frechet.frechet_gaussian(np.zeros(2), cov, np.array([3.0, 4.0]), cov)
    assert found == pytest.approx(25)


def test_commuting_covariances_are_compared_by_their_deviations():
    a, b = np.array([1.0, 4.0, 0.0]), np.array([9.0, 1.0, 4.0])
    found = frechet.frechet_gaussian(np.zeros(3), np.diag(a), np.zeros(3), np.diag(b))
    assert found == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2))


def test_general_covariances_agree_with_the_matrix_root():
    rng = np.random.default_rng(0)
    a, b = (m @ m.T for m in rng.normal(size=(2, 6, 6)))
    exact = np.trace(a) + np.trace(b) - 2 * np.trace(linalg.sqrtm(a @ b)).real
    assert frechet.frechet_gaussian(np.zeros(6), a, np.ones(6), b) == pytest.approx(6 + exact)


def test_a_set_against_itself_is_zero_with_dead_features_too():
    x = np.random.default_rng(0).normal(size=(100, 8))
    x[:, 3:] = 0
    assert frechet.frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-10)


def test_one_feature():
    x = np.array([[0.0], [2.0]])
    # Means 1 and 5; unbiased deviations sqrt(2) and 2 sqrt(2).
    assert frechet.frechet_distance(x, 2 * x + 3) == pytest.approx(16 + 2)


def test_too_few_rows_and_two_widths_are_refused():
    with pytest.raises(ValueError, match=r"8 rows of 8 features .* at least 9 rows"):
        frechet.frechet_distance(np.zeros((20, 8)), np.zeros((8, 8)))
    with pytest.raises(ValueError, match="cannot be compared"):
        frechet.frechet_distance(np.zeros((20, 8)), np.zeros((20, 7)))


def test_evaluator_in_classifier_features(key, digits, make_sample):
    x1 = np.tile(digits.take("train", None).x1, (2, 1, 1, 1))
    good = frechet.frechet(None, key, digits, make_sample(x1))
    noise = np.random.default_rng(0).normal(size=x1.shape).astype(np.float32)
    bad = frechet.frechet(None, key, digits, make_sample(x1 + noise))
    ends = ("", "_floor", "_ratio", "_n", "_draws", "_dims", "_of_dims")
    assert set(good) == {f"frechet_classifier{end}" for end in ends}
    assert (good["frechet_classifier_n"], good["frechet_classifier_draws"]) == (360, 5)
    assert good["frechet_classifier"] == pytest.approx(good["frechet_classifier_floor"], rel=0.4)
    ratio = good["frechet_classifier"] / good["frechet_classifier_floor"]
    assert good["frechet_classifier_ratio"] == pytest.approx(ratio)
    assert bad["frechet_classifier"] > 4 * good["frechet_classifier"]
    assert all(isinstance(value, float) for value in good.values())
    with pytest.raises(ValueError, match="64 rows of 64 features"):
        frechet.frechet(None, key, digits, make_sample(x1), n=64)


def test_evaluator_in_other_features_names_them(key, normal, fresh, make_sample):
    sample = make_sample(fresh + np.float32(1))
    out = frechet.frechet(
        None, key, normal, sample, features=_common.flat_features, name="data_space"
    )
    assert out["frechet_data_space"] == pytest.approx(2, rel=0.3)
    assert out["frechet_data_space_floor"] < 0.1


def test_principal_components_are_those_of_the_real_features(key, normal, make_data, make_sample):
    # three coordinates, of which one hardly varies and the last is constant
    scale = np.array([1, 3, 1e-3], np.float32)
    rows = np.random.default_rng(0).normal(size=(900, 3)).astype(np.float32) * scale
    data = make_data({"train": (rows[:600], None), "test": (rows[600:], None)})
    moved = make_sample(np.tile(rows, (2, 1)) + np.array([0, 5, 0], np.float32))
    options = {"features": _common.flat_features, "draws": 2}
    one = frechet.frechet(None, key, data, moved, dims=1, **options)
    assert one["frechet_data_space"] == pytest.approx(25, rel=0.2)
    assert (one["frechet_data_space_dims"], one["frechet_data_space_of_dims"]) == (1, 3)
    # all of them: a rotation, which changes nothing
    every = frechet.frechet(None, key, data, moved, dims=3, **options)
    plain = frechet.frechet(None, key, data, moved, **options)
    assert every["frechet_data_space"] == pytest.approx(plain["frechet_data_space"])
    with pytest.raises(ValueError, match="dims=4 of 3 features"):
        frechet.frechet(None, key, data, moved, dims=4, **options)


def test_an_extractor_names_itself(key, images, extractor, make_sample):
    sample = make_sample(images.take("train").x1)
    out = frechet.frechet(None, key, images, sample, features=extractor, draws=2)
    assert out["frechet_tiny_test_n"] == 60
    with pytest.raises(ValueError, match="need a name="):
        frechet.frechet(None, key, images, sample, features=lambda data, x: x)
