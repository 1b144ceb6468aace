"""Reconstruction as sampling: of the examples given as conditions, and of no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import codecs
from fmjax.models.autoencoder import Autoencoder
from fmjax.samplers.reconstruct import reconstruct

KEY = jax.random.key(0)
CODEC = codecs.affine(low=0.0, high=10.0)
NET = Autoencoder(
    lambda t, x: jnp.concatenate([2 * x, 0 * x + jnp.log(0.25)], -1), lambda t, z: z / 2
)
X = jnp.linspace(0.0, 10.0, 2000)[:, None]


def test_it_gives_back_the_conditions_whatever_the_noise():
    x1, info = reconstruct(NET, KEY, jnp.full(X.shape, jnp.nan), X, codec=CODEC)
    np.testing.assert_allclose(CODEC.decode(x1), X, atol=1e-5)
    assert info.nfe == 2


def test_what_it_cannot_reconstruct_is_named():
    with pytest.raises(ValueError, match=r"no condition.*originals"):
        reconstruct(NET, KEY, X, codec=CODEC)
    with pytest.raises(ValueError, match="no encoder"):
        reconstruct(lambda t, x: x, KEY, X, X, codec=CODEC)
    with pytest.raises(ValueError, match=r"\(2000, 1\), expected \(2000, 2\)"):
        reconstruct(NET, KEY, jnp.zeros((2000, 2)), X, codec=CODEC)
