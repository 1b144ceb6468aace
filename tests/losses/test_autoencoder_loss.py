"""The autoencoder's objective against its closed form, with encoders and decoders of one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.losses.autoencoder import autoencoder
from fmjax.models.autoencoder import Autoencoder
from fmjax.types import Batch, Nets

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(1), (512, 4, 4, 2))


def nets(log_variance=-60.0, gain=1.0, bias=0.0):
    """z = x of fixed variance; x̂ = gain z + bias."""
    encoder = lambda t, x, key=None: jnp.concatenate([x, 0 * x + log_variance], -1)  # noqa: E731
    net = Autoencoder(encoder, lambda t, z, key=None: gain * z + bias)
    return Nets(net, net, net)


@pytest.mark.parametrize(("error", "expected"), [(jnp.square, 0.25), (jnp.abs, 0.5)])
def test_without_noise_and_kl_it_is_the_mean_error(error, expected):
    loss, metrics = autoencoder(nets(bias=0.5), KEY, Batch(X), error=error, beta=0.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    assert loss.shape == (512,)
    np.testing.assert_array_equal(loss, metrics["reconstruction"])


def test_noise_of_the_posterior_costs_its_variance():
    loss, _ = autoencoder(nets(log_variance=np.log(0.09)), KEY, Batch(X), beta=0.0)
    assert loss.mean() == pytest.approx(0.09, rel=0.05)


def test_kl_is_in_nats_of_an_example_and_divided_by_its_entries():
    _, metrics = autoencoder(nets(log_variance=0.0), KEY, Batch(X))
    kl = 0.5 * np.square(X).reshape(512, -1).sum(1)
    np.testing.assert_allclose(metrics["kl_nats"], kl, rtol=1e-5)
    loss, metrics = autoencoder(nets(log_variance=0.0), KEY, Batch(X), beta=3.0)
    np.testing.assert_allclose(loss - metrics["reconstruction"], 3.0 * kl / 32, rtol=1e-4)


def test_it_bounds_the_evidence_of_a_linear_model_and_touches_it_at_the_posterior():
    # x = z + s ε, so p(x) = N(0, 1 + s²); −ELBO = d (loss/β + log(2π s²)/2) with β = 2 s²
    s2, x = 0.5, X[:, :1, :1, :1]

    def elbo(gain, variance):
        def encoder(t, x, key=None):
            return jnp.concatenate([gain * x, 0 * x + jnp.log(variance)], -1)

        net = Autoencoder(encoder, lambda t, z, key=None: z)
        rows = jnp.tile(x, (64, 1, 1, 1))
        loss, _ = autoencoder(Nets(net, net, net), KEY, Batch(rows), beta=2 * s2)
        return -float(loss.mean() / (2 * s2)) - 0.5 * np.log(2 * np.pi * s2)

    evidence = float(-0.5 * np.log(2 * np.pi * (1 + s2)) - jnp.mean(x**2) / (2 * (1 + s2)))
    best = elbo(1 / (1 + s2), s2 / (1 + s2))
    assert best == pytest.approx(evidence, abs=0.01)
    for gain, variance in ((0.3, 1 / 3), (0.9, 1 / 3), (2 / 3, 0.1), (2 / 3, 0.9)):
        assert elbo(gain, variance) < best - 0.02


def test_a_model_of_one_net_and_a_decoder_of_another_shape_are_named():
    with pytest.raises(ValueError, match="encoder and decoder"):
        autoencoder(Nets(jnp.sin, jnp.sin, jnp.sin), KEY, Batch(X))
    net = nets().online._replace(decoder=lambda t, z, key=None: z[..., :1])
    with pytest.raises(ValueError, match=r"\(512, 4, 4, 1\)"):
        autoencoder(Nets(net, net, net), KEY, Batch(X))
