"""Every example given as its own condition."""

import functools

import jax
import numpy as np
import pytest
import tiny

from fmjax.data.originals import originals
from fmjax.data.toy import toy

KEY = jax.random.key(0)


def test_conditions_are_the_examples_and_the_classes_go():
    data = originals(data=tiny.points, batch_size=8, seed=3)
    plain = tiny.points(batch_size=8, seed=3)
    for batch, own in (
        (data.batch("train", 5), plain.batch("train", 5)),
        (data.take("test", 7), plain.take("test", 7)),
    ):
        np.testing.assert_array_equal(batch.x1, own.x1)
        np.testing.assert_array_equal(batch.cond, own.x1)
    assert data.spec.cond == plain.spec.x1
    assert data.splits == plain.splits
    assert not data.names
    assert data.null is None


def test_data_that_are_drawn_stay_drawn():
    square = functools.partial(toy, lambda key, n: jax.random.uniform(key, (n, 2)))
    batch = originals(data=square, batch_size=4).sample(KEY, 6)
    np.testing.assert_array_equal(batch.cond, batch.x1)


def test_latents_are_refused():
    encoded = lambda *, batch_size: tiny.points(batch_size=8)._replace(encoded=True)  # noqa: E731
    with pytest.raises(ValueError, match="latents already"):
        originals(data=encoded, batch_size=4)
