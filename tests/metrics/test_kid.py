import numpy as np
import pytest

from fmjax.metrics import kid


def test_by_hand():
    x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    # k(0, 1) = 1; k(2, 3) = 7³; k(0, ·) = 1, 1; k(1, 2) = 3³, k(1, 3) = 4³
    assert kid.polynomial_mmd2(x, y) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


def test_unbiased_on_one_distribution():
    rng = np.random.default_rng(0)
    found = [kid.polynomial_mmd2(*rng.normal(size=(2, 20, 3))) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20


def test_evaluator_names_sizes_and_extractor(key, images, extractor, make_sample):
    x = images.take("train").x1
    options = {"features": extractor, "subsets": 20, "subset_size": 50, "n": 120}
    same = kid.kid(None, key, images, make_sample(x), **options)
    other = kid.kid(None, key, images, make_sample(x // 2), **options)
    assert abs(same["kernel_distance_tiny"]) < 0.05 < other["kernel_distance_tiny"]
    sizes = {"n": 120, "reference_n": 200, "subsets": 20, "subset_size": 50}
    assert {term: same[f"kernel_distance_tiny_{term}"] for term in sizes} == sizes
    assert other == kid.kid(None, key, images, make_sample(x // 2), **options)
    assert all(isinstance(value, float) for value in same.values())


def test_only_inceptions_is_kid(key, images, make_extractor_named, make_sample):
    features = make_extractor_named("inception")
    sample = make_sample(images.take("test").x1)
    out = kid.kid(None, key, images, sample, features=features, split="test", subset_size=60)
    # both are all the test rows
    assert out["kid_test_std"] == pytest.approx(0, abs=1e-9)


def test_too_few_rows_are_refused(key, images, extractor, make_sample):
    with pytest.raises(ValueError, match=r"subsets of 1000 .* pass subset_size=200 or less"):
        kid.kid(None, key, images, make_sample(images.take("train").x1), features=extractor)
    with pytest.raises(ValueError, match="needs 2 of each"):
        kid.polynomial_mmd2(np.zeros((1, 2)), np.zeros((4, 2)))
