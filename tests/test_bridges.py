import functools

import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import bridges, paths

KEY = jax.random.key(0)
T = jnp.array([0.1, 0.3, 0.55, 0.8, 0.95])
X0 = jax.random.normal(jax.random.key(1), (5, 3, 2))
X1 = 2 * jax.random.normal(jax.random.key(2), (5, 3, 2)) + 1
BRIDGES = {
    "linear": bridges.stochastic_interpolant(),
    "trigonometric": bridges.stochastic_interpolant(path=paths.cosine(), gamma=bridges.parabola),
    "sine": bridges.stochastic_interpolant(gamma=bridges.sine, eps=0.0),
    "brownian": bridges.brownian(sigma=0.7),
    "encoder and decoder": bridges.encoder_decoder(scale=2.0),
}
CONSTANT = bridges.stochastic_interpolant(gamma=functools.partial(bridges.constant, scale=0.1))


@pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)
def test_velocity_is_the_time_derivative_and_the_ends_are_exact(bridge):
    at = jax.jit(lambda t: bridge(KEY, t, X0, X1))

    h = 1e-3
    difference = (at(T + h).xt - at(T - h).xt) / (2 * h)
    np.testing.assert_allclose(at(T).ut, difference, atol=1e-2)
    for t, end in ((0.0, X0), (1.0, X1)):
        point = at(t)
        np.testing.assert_allclose(point.xt, end, atol=1e-5)
        assert np.isfinite(point.ut).all()
        per_example = at(jnp.full(5, t))
        np.testing.assert_array_equal(per_example.xt, point.xt)


@pytest.mark.parametrize("bridge", [*BRIDGES.values(), CONSTANT], ids=[*BRIDGES, "constant"])
def test_latent_noise_is_what_the_point_has_beyond_its_mean(bridge):
    draw = jax.jit(lambda key: bridge(key, T, X0, X1))
    a, b = (draw(k) for k in (KEY, jax.random.key(9)))
    gamma = paths.like(a.aux.gamma, X0)
    assert a.aux.gamma.shape == T.shape
    np.testing.assert_allclose(a.xt - b.xt, gamma * (a.aux.z - b.aux.z), atol=1e-5)
    assert not np.array_equal(a.aux.z, b.aux.z)


def test_brownian_bridge_has_its_variance():
    n, sigma, t = 100_000, 1.5, 0.3
    x = bridges.brownian(sigma=sigma)(KEY, t, jnp.zeros((n, 1)), jnp.ones((n, 1))).xt
    np.testing.assert_allclose(x.mean(), t, atol=0.01)
    np.testing.assert_allclose(x.var(), sigma**2 * t * (1 - t), rtol=0.02)


def test_constant_gamma_is_the_path_noise_of_torchcfm():
    xt, ut, (z, _) = CONSTANT(KEY, T, X0, X1)
    mean, velocity = paths.interpolate(paths.linear(), T, X0, X1)
    np.testing.assert_allclose(xt, mean + 0.1 * z, atol=1e-6)
    np.testing.assert_array_equal(ut, velocity)


def test_encoder_decoder_passes_through_noise_alone():
    xt, _, (z, _) = BRIDGES["encoder and decoder"](KEY, 0.5, X0, X1)
    np.testing.assert_allclose(xt, 2 * z, atol=1e-5)


@pytest.mark.parametrize("t", [0.3])
@pytest.mark.parametrize(
    ("path", "gamma"),
    [(paths.linear(), bridges.root), (paths.cosine(), bridges.sine)],
    ids=["linear", "trigonometric"],
)
def test_regressions_give_the_velocity_and_score_of_the_merged_path(path, gamma, t):
    """For Gaussian data both are affine in x."""
    n, mean, std = 100_000, 1.0, 0.6
    key_x0, key_x1, key = jax.random.split(jax.random.key(3), 3)
    x0 = jax.random.normal(key_x0, (n, 1))
    x1 = mean + std * jax.random.normal(key_x1, (n, 1))
    bridge = bridges.stochastic_interpolant(path=path, gamma=gamma)
    xt, ut, (z, scale) = jax.jit(bridge)(key, t, x0, x1)
    merged = bridges.merged(path=path, gamma=gamma)
    data = closed_forms.gaussian([mean], std)
    x = jnp.array([[-1.0], [0.0], [1.5]])
    at = closed_forms.marginal(merged.alpha, merged.sigma, jnp.float32(t), data)
    wanted = closed_forms.velocity(merged.alpha, merged.sigma, t, x, data)
    for target, want in ((ut, wanted), (-z / scale, closed_forms.score(at, x))):
        slope, intercept = np.polyfit(np.asarray(xt[:, 0]), np.asarray(target[:, 0]), 1)
        np.testing.assert_allclose(slope * x + intercept, want, atol=0.04)


def test_linear_with_the_root_of_two_merges_into_linear_vp():
    merged = bridges.merged(
        path=paths.linear(), gamma=functools.partial(bridges.root, scale=2**0.5)
    )
    np.testing.assert_allclose(merged.sigma(T), paths.linear_vp().sigma(T), rtol=1e-6)
    np.testing.assert_array_equal(merged.alpha(T), T)
