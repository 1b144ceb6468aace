"""Figures of reconstructions whose error, and of latents whose law, is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.data.in_memory import in_memory
from fmjax.metrics import reconstruction as metrics
from fmjax.models.autoencoder import Autoencoder
from fmjax.types import Batch

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 2, 2, 2)).astype(np.float32) * np.float32([1.0, 3.0]) + np.float32(2)


def data():
    return in_memory({"train": Batch(X, X), "test": Batch(X, X)}, batch_size=4)


def encoder(t, x):
    """Mean x, deviations 0.5 and 1."""
    return jnp.concatenate([x, jnp.broadcast_to(2 * jnp.log(jnp.asarray([0.5, 1.0])), x.shape)], -1)


NET = Autoencoder(encoder, lambda t, z: z)


def test_psnr_is_the_mean_of_the_logarithms():
    x = np.zeros((2, 4))
    y = np.stack([np.full(4, 0.1), np.full(4, 0.01)])
    assert metrics.psnr(x, y, peak=1.0) == pytest.approx((20 + 40) / 2)
    assert metrics.psnr(255 * x, 255 * y, peak=255) == pytest.approx(30)
    assert metrics.psnr(x, x, peak=1.0) == np.inf


def test_figures_of_a_known_error_and_of_known_latents():
    rows = data().take("test", None)
    made = lambda n: Batch(rows.x1[:n] + 0.5, rows.x1[:n])  # noqa: E731
    found = metrics.reconstruction(NET, KEY, data(), made, low=-1, high=1)
    assert found["mse"] == pytest.approx(0.25)
    assert found["mae"] == pytest.approx(0.5)
    assert found["psnr_db"] == pytest.approx(10 * np.log10(2**2 / 0.25))
    assert found["latent_mean_0"] == pytest.approx(2, abs=0.1)
    assert found["latent_std_0"] == pytest.approx(np.sqrt(1 + 0.25), rel=0.05)
    assert found["latent_std_1"] == pytest.approx(np.sqrt(9 + 1), rel=0.05)
    assert found["latent_active"] == 2
    kl = 0.5 * np.square(X).reshape(600, -1).sum(1).mean() + 4 * (0.5 * (0.25 - 1) - np.log(0.5))
    assert found["kl_nats"] == pytest.approx(kl, rel=1e-4)
    assert found["reconstruction_n"] == 600


def test_samples_without_originals_are_refused():
    with pytest.raises(ValueError, match="originals"):
        metrics.reconstruction(NET, KEY, data(), lambda n: Batch(X[:n]), low=0, high=1, n=8)
