import functools

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest

from fmjax.couplings import _common
from fmjax.couplings.sinkhorn import log_plan, sinkhorn

KEY = jax.random.key(0)


def points(n=8):
    rng = np.random.default_rng(3)
    x0, x1 = rng.normal(size=(2, n, 2)).astype(np.float32)
    return x0, x1 + 1


def test_its_plan_is_pots():
    cost = _common.squared_distances(*points(16)[::-1])
    options = {"epsilon": 0.5, "threshold": 1e-4, "max_iterations": 5000}
    plan = jax.jit(functools.partial(log_plan, **options))(jnp.asarray(cost, jnp.float32))
    theirs = ot.bregman.sinkhorn_log([], [], cost, 0.5, stopThr=1e-6, numItermax=5000)
    ours = np.asarray(jax.nn.softmax(plan, axis=1))
    np.testing.assert_allclose(ours, theirs / theirs.sum(1, keepdims=True), atol=1e-3)
    np.testing.assert_allclose(np.exp(plan).sum(0), 1 / 16, rtol=1e-3)


def test_pairs_are_drawn_from_it_and_each_data_row_is_used_once():
    x0, x1 = points()
    draw = functools.partial(sinkhorn, epsilon=1.0)
    rows = jax.jit(jax.vmap(draw, in_axes=(0, None, None)))(jax.random.split(KEY, 4000), x0, x1)
    assert (rows.x1 == jnp.arange(8)[None]).all()
    shares = jax.nn.one_hot(rows.x0, 8).mean(0)
    plan = ot.bregman.sinkhorn_log([], [], _common.squared_distances(x1, x0), 1.0)
    # standard deviation of a share: at most 0.008
    np.testing.assert_allclose(shares, 8 * plan, atol=0.035)
    np.testing.assert_allclose(shares.mean(0), 1 / 8, atol=0.02)


def test_without_convergence_data_rows_are_still_used_once():
    x0, x1 = points()
    rows = jax.jit(functools.partial(sinkhorn, epsilon=1e-3, max_iterations=1))(KEY, x0, x1)
    assert (rows.x1 == jnp.arange(8)).all()
    assert (rows.x0 >= 0).all()
    assert (rows.x0 < 8).all()


def test_a_codec_that_is_trained_gets_no_gradient_through_it():
    x0, x1 = points()

    def loss(scale):
        rows = sinkhorn(KEY, x0, x1 * scale, epsilon=1.0)
        return jnp.sum((jnp.asarray(x0)[rows.x0] - x1 * scale) ** 2), rows

    gradient, rows = jax.jit(jax.grad(loss, has_aux=True))(1.0)
    assert gradient == pytest.approx(2 * float(np.sum((x1 - x0[rows.x0]) * x1)), rel=1e-4)


@pytest.mark.parametrize("epsilon", [0, -1.0])
def test_no_entropy_is_an_error(epsilon):
    with pytest.raises(ValueError, match=rf"epsilon={epsilon}: expected more than 0.*exact"):
        sinkhorn(KEY, *points(), epsilon=epsilon)
