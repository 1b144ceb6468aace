import functools

import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import bridges, paths
from fmjax.losses.score_and_flow_matching import score_and_flow_matching
from fmjax.models.velocity_score import VelocityScore
from fmjax.types import Batch, Nets, Rows

MEAN, STD, N, SIGMA = 1.5, 0.5, 200_000, 0.8
DATA = closed_forms.gaussian([MEAN], STD)
BRIDGE = bridges.brownian(sigma=SIGMA)
GAMMA = functools.partial(bridges.root, scale=SIGMA)
X1 = MEAN + STD * jax.random.normal(jax.random.key(0), (N, 1))


def zero(t, x, cond=None, *, key=None):
    return jnp.zeros_like(x)


def loss(velocity, score, batch, **options):
    net = VelocityScore(velocity, score)
    options = {"bridge": BRIDGE, **options}
    return score_and_flow_matching(Nets(net, net, net), jax.random.key(1), batch, **options)


def at(t):
    return lambda key, n: jnp.full(n, t)


@pytest.mark.parametrize("t", [0.2, 0.6])
def test_minimisers_are_velocity_and_score(t):
    """For Gaussian data both are affine in x: solve for slope and intercept."""
    merged = bridges.merged(path=paths.linear(), gamma=GAMMA)

    def solved(which):
        def value(params):
            affine = lambda t, x, cond=None, *, key=None: params[0] * x + params[1]  # noqa: E731
            pair = (affine, zero) if which == "velocity" else (zero, affine)
            return loss(*pair, Batch(X1), sample_t=at(t))[0].mean()

        # a quadratic in two parameters is known from six values
        six = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1]], np.float32)
        f, a, b, c, d, e = np.asarray(jax.jit(jax.vmap(value))(six), np.float64)
        cross = e - a - c + f
        hessian = np.array([[a + b - 2 * f, cross], [cross, c + d - 2 * f]])
        return np.linalg.solve(hessian, -np.array([a - b, c - d]) / 2)

    x = np.array([[-0.5], [0.5], [2.0]], np.float32)

    @jax.jit
    def exact(x):
        marginal = closed_forms.marginal(merged.alpha, merged.sigma, jnp.float32(t), DATA)
        velocity = closed_forms.velocity(merged.alpha, merged.sigma, t, x, DATA)
        return {"velocity": velocity, "score": closed_forms.score(marginal, x)}

    for which, want in exact(x).items():
        slope, intercept = solved(which)
        np.testing.assert_allclose(slope * x + intercept, want, atol=0.05)


def test_value_is_the_sum_of_both_errors_and_weights_act_on_their_own():
    batch = Batch(X1[:64])
    total, metrics = loss(zero, zero, batch, sample_t=at(0.3))
    np.testing.assert_allclose(total, metrics["velocity_mse"] + metrics["noise_mse"], rtol=1e-6)
    weighted, again = loss(
        zero, zero, batch, sample_t=at(0.3), weight=lambda t: 2 * t, score_weight=3
    )
    np.testing.assert_array_equal(again["noise_mse"], metrics["noise_mse"])
    want = 0.6 * metrics["velocity_mse"] + 3 * metrics["noise_mse"]
    np.testing.assert_allclose(weighted, want, rtol=1e-6)
    # the exact score given both ends leaves no error
    x0 = jnp.zeros((64, 1))
    given = lambda t, x, cond=None, *, key=None: (  # noqa: E731
        -(x - 0.3 * batch.x1) / (SIGMA**2 * 0.3 * 0.7)
    )
    _, metrics = loss(zero, given, batch._replace(x0=x0), sample_t=at(0.3))
    np.testing.assert_allclose(metrics["noise_mse"], 0, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_finite_at_both_ends(t):
    def value(a):
        linear = lambda t, x, cond=None, *, key=None: a * x  # noqa: E731
        return loss(linear, linear, Batch(X1[:64]), sample_t=at(t))[0].mean()

    assert all(np.isfinite(v) for v in jax.value_and_grad(value)(0.5))


def test_coupling_condition_and_keys():
    seen, keys = [], []

    def net(t, x, cond=None, *, key=None):
        seen.append(cond)
        keys.append(tuple(np.asarray(jax.random.key_data(key))))
        return x

    cond = jnp.arange(1000)
    flip = lambda key, x0, x1, cond: Rows(cond, cond[::-1])  # noqa: E731
    with jax.debug_key_reuse(True):
        loss(net, net, Batch(X1[:1000], cond), coupling=flip, null=-1, drop=0.25)
    for c in seen:
        kept = np.asarray(c) != -1
        np.testing.assert_array_equal(c[kept], cond[::-1][kept])
        assert abs(kept.mean() - 0.75) < 0.05
    np.testing.assert_array_equal(*seen)  # velocity and score are asked about the same example
    assert keys[0] != keys[1]


def test_a_bridge_without_noise_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="no noise of its own"):
        loss(zero, zero, Batch(X1[:4]), bridge=paths.bridge(paths.linear()))
    wrong = lambda t, x, cond=None, *, key=None: x[0]  # noqa: E731
    with pytest.raises(ValueError, match="score net returned shape"):
        loss(zero, wrong, Batch(X1[:4]))
    with pytest.raises(ValueError, match="shape"):
        loss(wrong, zero, Batch(X1[:4]))
