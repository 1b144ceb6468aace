import math

import numpy as np
import pytest

from fmjax import codecs
from fmjax.metrics import token_entropy


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([5, 5, 5, 5], 0),
        ([0, 1, 2, 3], math.log(4)),
        ([7, 0, 7, 0], math.log(2)),
        ([1, 2, 1, 1], 3 / 4 * math.log(4 / 3) + 1 / 4 * math.log(4)),
        ([], 0),
    ],
)
def test_entropy_by_hand(tokens, expected):
    found = token_entropy.entropy_nats(np.array(tokens, np.int32))
    assert found == pytest.approx(expected, abs=1e-12)


def test_long_rows_have_the_entropy_that_they_are_drawn_with():
    p = np.array([0.5, 0.25, 0.125, 0.125])
    tokens = np.random.default_rng(0).choice(4, 20_000, p=p)
    assert token_entropy.entropy_nats(tokens) == pytest.approx(1.75 * math.log(2), abs=0.01)


def test_evaluator_has_real_rows_beside_samples(key, make_data, make_sample):
    test = np.array([[0, 1, 2, 3], [3, 3, 0, 0], [1, 1, 1, 1]])
    data, sample = make_data({"test": (test, None)}), make_sample(np.zeros((3, 4), np.int32))
    out = token_entropy.token_entropy(None, key, data, sample)
    assert out["token_entropy_nats"] == 0
    assert out["token_entropy_nats_real"] == pytest.approx((math.log(4) + math.log(2)) / 3)
    assert (out["token_entropy_n"], out["token_entropy_length_real"]) == (3, 4)
    assert all(isinstance(value, float) for value in out.values())
    # 3 ends a text: 0 1 2, nothing, and 1 1 1 1
    codec = codecs.identity()._replace(end=3)
    out = token_entropy.token_entropy(None, key, data, sample, codec=codec)
    assert out["token_entropy_nats_real"] == pytest.approx(math.log(3) / 3)
    assert out["token_entropy_length_real"] == pytest.approx(7 / 3)


def test_what_is_no_text_is_refused(key, normal, fresh, make_sample):
    with pytest.raises(ValueError, match=r"whole numbers \[b, n\], got float32\[200, 1, 2\]"):
        token_entropy.token_entropy(None, key, normal, make_sample(fresh))
