import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import codecs, sources


def test_affine_maps_the_range_onto_minus_one_to_one_and_back():
    codec = codecs.affine(low=0.0, high=16.0)
    x = jnp.array([[0.0, 4.0, 16.0]])
    np.testing.assert_allclose(codec.encode(x), [[-1, -0.5, 1]])
    np.testing.assert_allclose(codec.decode(codec.encode(x)), x)
    np.testing.assert_allclose(codec.decode(jnp.array([[-1.5, 1.5]])), [[0, 16]])
    open_ended = codecs.affine(low=0.0, high=16.0, clip=False)
    np.testing.assert_allclose(open_ended.decode(jnp.array([[1.5]])), [[20]])


def test_decoded_values_take_the_nearest_level():
    codec = codecs.affine(low=0.0, high=16.0, levels=17)
    x = jnp.arange(17.0)[None]
    np.testing.assert_array_equal(codec.decode(codec.encode(x)), x)
    np.testing.assert_array_equal(codec.decode(codec.encode(x + 0.4)), jnp.minimum(x, 16))
    with pytest.raises(ValueError, match="levels=1"):
        codecs.affine(low=0.0, high=1.0, levels=1)


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [(0.0, 255.0, 256), (0.0, 16.0, 17), (0.0, 1.0, 256), (-3.0, 4.0, 11)],
)
def test_decoded_levels_are_those_of_the_data_to_the_last_bit(low, high, levels):
    codec = codecs.affine(low=low, high=high, levels=levels)
    x = (low + (high - low) * np.arange(levels) / (levels - 1)).astype(np.float32)[None]
    np.testing.assert_array_equal(jax.jit(lambda x: codec.decode(codec.encode(x)))(x), x)
    step = (high - low) / (levels - 1)
    np.testing.assert_array_equal(jax.jit(codec.decode)(codec.encode(x + 0.4 * step)), x)
    beyond = jax.jit(codec.decode)(jnp.array([-1e9, -1.1, 1.1, 1e9, jnp.nan]))
    np.testing.assert_array_equal(beyond, np.float32([low, low, high, high, np.nan]))


def test_identity():
    x = jnp.ones((2, 3))
    assert codecs.identity().decode(codecs.identity().encode(x)) is x


def test_affine_of_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        codecs.affine(low=1.0, high=1.0)


def test_a_source_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="match them"):
        sources.distribution(
            jax.random.key(0), jnp.zeros((4, 3)), sample=lambda key, n: jnp.zeros((n, 2))
        )


def test_latents_are_shifted_and_scaled_channel_by_channel():
    codec = codecs.latent(
        lambda x: (x, jnp.ones_like(x)),
        lambda z: z,
        pixels=codecs.affine(low=0.0, high=2.0, clip=False),
        mean=[1.0, 2.0],
        std=[0.5, 4.0],
    )
    x = jnp.asarray([[2.0, 11.0]])
    mean, std = codec.posterior(x)
    np.testing.assert_allclose(mean, [[0.0, 2.0]])
    np.testing.assert_allclose(std, [[2.0, 0.25]])
    np.testing.assert_array_equal(codec.encode(x), mean)
    np.testing.assert_allclose(codec.decode(mean), x)
