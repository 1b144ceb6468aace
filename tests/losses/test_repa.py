"""REPA's loss in closed form, its features and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.losses.flow_matching import flow_matching
from fmjax.losses.repa import repa
from fmjax.types import Batch, Nets

X1 = jax.random.normal(jax.random.key(0), (5, 4, 3))
BATCH = Batch(X1)


def net(scale, tokens):
    def field(t, x, cond=None, *, key=None, align=False):
        return (scale * x, tokens) if align else scale * x

    return field


def nets(online, teacher=None):
    return Nets(online, online, online, teacher)


@pytest.mark.parametrize(("factor", "apart"), [(2.0, 0.0), (-3.0, 2.0)])
def test_it_is_flow_matching_and_the_angle_between_tokens_and_features(factor, apart):
    """Tokens that are multiples of the features have the cosine 1 or −1, whatever their size."""
    key, online = jax.random.key(1), net(0.5, factor * X1)
    plain, _ = flow_matching(nets(online), key, BATCH)
    loss, metrics = repa(nets(online), key, BATCH, features=lambda x: x, coefficient=0.3)
    np.testing.assert_allclose(loss, plain + 0.3 * apart, rtol=1e-5)
    np.testing.assert_allclose(metrics["alignment_cosine"], 1 - apart, atol=1e-5)
    taught, _ = repa(nets(online, net(1.0, X1)), key, BATCH, coefficient=0.3)
    np.testing.assert_allclose(taught, loss, rtol=1e-5)


def test_a_teacher_is_asked_about_the_clean_example_with_its_condition():
    seen, cond = [], jnp.arange(5)

    def teacher(t, x, cond=None, *, key=None, align=False):
        seen.append((t, x, cond))
        return x, X1

    online = nets(net(0.5, X1), teacher)
    repa(online, jax.random.key(1), Batch(X1, cond), null=-1, drop=1.0)
    ((t, x, c),) = seen
    assert t == 1
    np.testing.assert_array_equal(x, X1)
    np.testing.assert_array_equal(c, cond)


def test_what_is_missing_or_misshapen_is_an_error():
    with pytest.raises(ValueError, match="neither features nor a teacher"):
        repa(nets(net(1.0, X1)), jax.random.key(1), BATCH)
    with pytest.raises(ValueError, match=r"tokens are \(5, 4, 2\), the features \(5, 4, 3\)"):
        repa(nets(net(1.0, X1[..., :2])), jax.random.key(1), BATCH, features=lambda x: x)
