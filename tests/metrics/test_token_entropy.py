import math

import numpy as np
import pytest

from fmjax.metrics import token_entropy


def test_entropy_by_hand():
    rows = np.array([[5, 5, 5, 5], [0, 1, 2, 3], [7, 0, 7, 0], [1, 2, 1, 1]])
    last = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    expected = [0, math.log(4), math.log(2), last]
    np.testing.assert_allclose(token_entropy.entropy_nats(rows), expected, atol=1e-12)


def test_long_rows_have_the_entropy_that_they_are_drawn_with():
    p = np.array([0.5, 0.25, 0.125, 0.125])
    rows = np.random.default_rng(0).choice(4, (3, 20_000), p=p)
    np.testing.assert_allclose(token_entropy.entropy_nats(rows), 1.75 * math.log(2), atol=0.01)


def test_evaluator_has_real_rows_beside_samples(key, make_data, make_sample):
    test = np.random.default_rng(0).integers(0, 27, (9, 16))
    data = make_data({"test": (test, None)})
    out = token_entropy.token_entropy(None, key, data, make_sample(np.zeros((9, 16), np.int32)))
    assert out["token_entropy_nats"] == 0
    assert out["token_entropy_nats_real"] == token_entropy.entropy_nats(test).mean()
    assert (out["token_entropy_n"], out["token_entropy_width"]) == (9, 16)
    assert all(isinstance(value, float) for value in out.values())


def test_what_is_no_text_is_refused(key, normal, fresh, make_sample):
    with pytest.raises(ValueError, match=r"whole numbers \[b, n\], got float32\[200, 1, 2\]"):
        token_entropy.token_entropy(None, key, normal, make_sample(fresh))
