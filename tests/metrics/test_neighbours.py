import numpy as np
import pytest

from fmjax import types
from fmjax.metrics import neighbours


def test_by_hand():
    real, labels = np.array([[0.0], [1.0], [2.0], [10.0]]), np.array([0, 0, 1, 1])
    x, wanted = np.array([[0.1], [9.0], [1.6]]), np.array([0, 0, 1])
    assert neighbours.neighbour_agreement(x, wanted, real, labels) == pytest.approx(2 / 3)
    # neighbours {0, 1}, {10, 2}, {2, 1}
    found = neighbours.neighbour_agreement(x, wanted, real, labels, k=2)
    assert found == pytest.approx((2 + 0 + 1) / 6)
    with pytest.raises(ValueError, match="k = 5 neighbours among 4 rows"):
        neighbours.neighbour_agreement(x, wanted, real, labels, k=5)


def test_evaluator_reads_one_of_several_conditions(key, images, extractor, make_sample):
    def several(split, n=None):
        x1, cond, *_ = images.take(split, n)
        return types.Batch(x1, {"group": cond, "style": cond * 0})

    data = images._replace(take=several)
    x1, cond, *_ = images.take("train")
    right = make_sample(x1, None)

    def sample(n):
        return types.Batch(right(n).x1, {"group": 1 - cond[:n], "style": 0 * cond[:n]})

    out = neighbours.neighbours(None, key, data, sample, of="group", features=extractor, k=3, n=20)
    assert out["neighbours_group_tiny"] == 0
    assert out["neighbours_group_tiny_real"] == 1
    sizes = {"n": 20, "reference_n": 200, "k": 3}
    assert {term: out[f"neighbours_group_tiny_{term}"] for term in sizes} == sizes
    pixels = neighbours.neighbours(None, key, data, sample, of="style", n=20)
    assert pixels["neighbours_style"] == 1
    with pytest.raises(ValueError, match=r"conditions are \['group', 'style'\]: name one"):
        neighbours.neighbours(None, key, data, sample, n=20)
    with pytest.raises(ValueError, match="of='group' names one of several"):
        neighbours.neighbours(None, key, images, make_sample(x1, cond), of="group", n=20)
    with pytest.raises(ValueError, match="name another reference"):
        neighbours.neighbours(None, key, images, make_sample(x1, cond), reference="test")
