import functools

import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths, train
from fmjax.losses import _common
from fmjax.losses.flow_matching import flow_matching
from fmjax.models.predict import predict
from fmjax.types import Batch, Model, Nets

MEAN, STD, N = 1.5, 0.5, 100_000
DATA = closed_forms.gaussian([MEAN], STD)
ROWS = [paths.x1, paths.x0, paths.velocity, paths.score]
AFFINE = Model(
    lambda key, batch: jnp.zeros(2),
    lambda params, t, x, cond=None, *, key=None: params[0] * x + params[1],
)


def nets(net):
    return Nets(online=net, stopped=net, ema=net)


def constant(t):
    return lambda key, n: jnp.full(n, t)


PAIRS = [(paths.linear(), 0.25, row, measured_in) for row in ROWS for measured_in in ROWS]
PAIRS += [(path, 0.7, row, row) for path in (paths.cosine(), paths.vp()) for row in ROWS]


@functools.cache
def data():
    return jax.jit(lambda: MEAN + STD * jax.random.normal(jax.random.key(0), (N, 1)))()


@pytest.mark.parametrize(("path", "t", "row", "measured_in"), PAIRS)
def test_minimiser_is_the_marginal_velocity(path, t, row, measured_in):
    """For Gaussian data every exact prediction is affine in x at a time: solve for the affine."""
    model = predict(AFFINE, path=path, row=row)
    weight = functools.partial(paths.weight, path=path, to=measured_in)
    x1 = data()

    def loss(params):
        net = nets(train.bind(model, params))
        options = {"bridge": paths.bridge(path), "sample_t": constant(t), "weight": weight}
        per_example, _ = flow_matching(net, jax.random.key(1), Batch(x1), **options)
        return per_example.mean()

    # a quadratic in two parameters is known from six values
    six = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1]], np.float32)
    at, a, b, c, d, e = np.asarray(jax.jit(jax.vmap(loss))(six), np.float64)
    cross = e - a - c + at
    hessian = np.array([[a + b - 2 * at, cross], [cross, c + d - 2 * at]])
    params = np.linalg.solve(hessian, -np.array([a - b, c - d]) / 2)

    @jax.jit
    def both(params, x):
        want = closed_forms.velocity(path.alpha, path.sigma, t, x, DATA)
        return train.bind(model, params)(t, x), want

    x = np.array([[-0.5], [0.5], [1.0], [2.0]], np.float32)
    got, want = both(params.astype(np.float32), x)
    np.testing.assert_allclose(got, want, atol=0.03 * (1 + np.abs(want).max()))


def test_loss_at_the_exact_field_is_the_variance_that_remains():
    path = paths.linear()
    field = closed_forms.field(path.alpha, path.sigma, DATA)
    t = 0.4
    run = functools.partial(flow_matching, nets(field), jax.random.key(1), sample_t=constant(t))
    loss, metrics = jax.jit(run)(Batch(data()))
    # u = x1 − x0 given x_t: Var(u) − Cov(u, x_t)² / Var(x_t)
    var = t**2 * STD**2 + (1 - t) ** 2
    remains = STD**2 + 1 - (t * STD**2 - (1 - t)) ** 2 / var
    np.testing.assert_allclose(loss.mean(), remains, rtol=0.02)
    np.testing.assert_array_equal(metrics["velocity_mse"], loss)


def test_a_weight_of_time_multiplies_the_loss_and_not_the_error():
    net = lambda t, x, cond=None, *, key=None: 0 * x  # noqa: E731
    t, batch = jnp.arange(5) / 5, Batch(jnp.arange(10.0).reshape(5, 2))
    args = nets(net), jax.random.key(0), batch
    plain, _ = flow_matching(*args, sample_t=lambda key, n: t)
    loss, metrics = flow_matching(*args, sample_t=lambda key, n: t, weight=lambda t: 1 + 3 * t)
    np.testing.assert_allclose(loss, (1 + 3 * t) * plain, rtol=1e-6)
    np.testing.assert_array_equal(metrics["velocity_mse"], plain)


def test_x0_of_the_batch_is_used_and_rows_may_be_permuted():
    key = jax.random.key(0)
    x0, x1 = jax.random.normal(key, (8, 2)), jnp.arange(16.0).reshape(8, 2)
    net = lambda t, x, cond=None, *, key=None: 0 * x  # noqa: E731
    at = constant(0.5)
    loss, _ = flow_matching(nets(net), key, Batch(x1, x0=x0), sample_t=at)
    np.testing.assert_allclose(loss, ((x1 - x0) ** 2).mean(axis=1), rtol=1e-6)
    order = jnp.array([3, 1, 0, 2, 7, 6, 5, 4])
    permuted, _ = flow_matching(nets(net), key, Batch(x1[order], x0=x0[order]), sample_t=at)
    np.testing.assert_array_equal(permuted, loss[order])


def test_conditions_are_dropped_one_coin_an_example():
    seen = []

    def net(t, x, cond=None, *, key=None):
        seen.append(cond)
        return x

    cond = jnp.arange(4000) % 10
    flow_matching(
        nets(net), jax.random.key(0), Batch(jnp.zeros((4000, 1)), cond), null=10, drop=0.3
    )
    dropped = np.asarray(seen[0]) == 10
    assert abs(dropped.mean() - 0.3) < 0.03
    np.testing.assert_array_equal(seen[0][~dropped], cond[~dropped])


def test_continuous_conditions_drop_whole_rows():
    cond = jnp.ones((500, 3))
    got = _common.drop_condition(jax.random.key(0), cond, np.zeros(3, np.float32), 0.5)
    assert set(np.asarray(got).sum(axis=1)) == {0.0, 3.0}


def test_time_noise_dropping_and_dropout_have_keys_of_their_own():
    keys = []

    def net(t, x, cond=None, *, key=None):
        keys.append(jax.random.key_data(key))
        return x

    with jax.debug_key_reuse(True):
        flow_matching(
            nets(net),
            jax.random.key(0),
            Batch(jnp.ones((4, 2)), jnp.zeros(4, int)),
            null=1,
            drop=0.5,
        )
    assert len(keys) == 1


def test_a_velocity_of_another_shape_is_refused_not_broadcast():
    net = lambda t, x, cond=None, *, key=None: x[:, :1]  # noqa: E731
    with pytest.raises(ValueError, match="shape"):
        flow_matching(nets(net), jax.random.key(0), Batch(jnp.ones((4, 2))))


def test_dropping_needs_an_absent_condition():
    with pytest.raises(ValueError, match="absent"):
        _common.drop_condition(jax.random.key(0), jnp.zeros(3, int), None, 0.1)


def test_the_direction_of_the_velocity_in_closed_form():
    """From zero noise, u_t = x1 and x_t = t x1: any positive multiple has the cosine 1."""
    zeros = lambda key, like: jax.tree.map(jnp.zeros_like, like)  # noqa: E731
    options = {"source": zeros, "sample_t": constant(0.5)}
    batch = Batch(jax.random.normal(jax.random.key(0), (5, 4, 3)))
    for scale, apart in ((0.5, 0.0), (-0.5, 2.0)):
        args = (nets(lambda t, x, c=None, *, key=None, s=scale: s * x), jax.random.key(1), batch)
        plain, _ = flow_matching(*args, **options)
        loss, metrics = flow_matching(*args, **options, direction=0.7)
        np.testing.assert_allclose(loss, plain + 0.7 * apart, rtol=1e-5)
        np.testing.assert_allclose(metrics["velocity_cosine"], 1 - apart, atol=1e-5)


def test_the_cosine_with_zero_is_zero_and_has_a_finite_gradient():
    value, grad = jax.value_and_grad(lambda a: _common.cosine(a, jnp.ones(3)))(jnp.zeros(3))
    assert value == 0
    assert np.isfinite(grad).all()
