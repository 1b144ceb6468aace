"""The autoencoder: sizes, counts, what depends on what, and its posterior's closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.battery import filled

from fmjax import train
from fmjax.models import autoencoder as models
from fmjax.types import Batch

KEY = jax.random.key(0)


@functools.cache
def small(side=8, patch=2, channels=2):
    model = models.autoencoder(width=4, multipliers=(1, 2), groups=2, patch=patch)
    x = jax.random.normal(KEY, (3, side, side, channels))
    params = filled(jax.eval_shape(functools.partial(train.init_params, model), KEY, Batch(x)))
    return models.Autoencoder(*map(jax.jit, train.bind(model, params))), x


def test_the_published_network_has_the_published_number_of_parameters():
    init = functools.partial(train.init_params, models.sd_vae())
    params = jax.eval_shape(init, KEY, Batch(jnp.zeros((1, 16, 16, 3))))
    # diffusers' AutoencoderKL of these sizes
    assert train.total_parameters(params) == 83_653_863
    assert train.total_parameters(params.encoder) == 34_163_664


def test_images_become_latents_and_images_again():
    net, x = small()
    moments = net.encoder(1.0, x)
    assert moments.shape == (3, 2, 2, 8)
    plain, _ = small(patch=1)
    assert jax.eval_shape(lambda x: plain.encoder(1.0, x), x).shape == (3, 4, 4, 8)
    mean, _ = models.posterior(moments)
    again = net.decoder(1.0, mean)
    assert again.shape == x.shape
    assert again.dtype == x.dtype
    np.testing.assert_array_equal(again, net(1.0, x, key=KEY))


def test_each_image_is_coded_alone_and_larger_ones_too():
    net, x = small()
    np.testing.assert_allclose(net(1.0, x)[1:2], net(1.0, x[1:2]), atol=1e-5)
    wide = jnp.concatenate([x, x], axis=2)
    assert jax.eval_shape(lambda x: net(1.0, x), wide).shape == wide.shape


def test_patches_hold_the_pixels_that_they_show():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    patches = models.to_patches(x, 2)
    np.testing.assert_array_equal(patches[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])
    np.testing.assert_array_equal(models.from_patches(patches, 2), x)


def test_kl_is_that_of_normals_and_zero_at_the_prior():
    mean, std = jnp.asarray([[[1.0, 0.0]], [[0.0, 0.0]]]), jnp.asarray([[[1.0, 2.0]], [[1.0, 1.0]]])
    expected = 0.5 + (2.0**2 - 1) / 2 - np.log(2.0)
    np.testing.assert_allclose(models.kl_nats(mean, std), [expected, 0.0], rtol=1e-6)


def test_posterior_reads_halves_and_bounds_the_variance():
    mean, std = models.posterior(jnp.asarray([[1.0, 2.0, 0.0, -100.0]]))
    np.testing.assert_allclose(mean, [[1.0, 2.0]])
    np.testing.assert_allclose(std, [[1.0, np.exp(-15.0)]], rtol=1e-6)


def test_sides_that_do_not_divide_are_refused():
    net, x = small()
    with pytest.raises(ValueError, match="multiples of 4"):
        net.encoder(1.0, x[:, :6])
    with pytest.raises(ValueError, match=r"expected \[b, h, w, c\]"):
        net.encoder(1.0, x[:, 0])
