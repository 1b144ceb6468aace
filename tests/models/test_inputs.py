"""Every network changes with whatever it is given, narrow ones too: none learns without its time.

At random weights, none of them zero, since output layers start at zero.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import inputs
from helpers.battery import filled

from fmjax import train, types
from fmjax.models.autoencoder import autoencoder
from fmjax.models.dit import dit
from fmjax.models.edit_transformer import edit_transformer
from fmjax.models.edm_unet import edm_unet
from fmjax.models.mlp import mlp
from fmjax.models.nnx_mlp import nnx_mlp
from fmjax.models.resmlp import resmlp
from fmjax.models.token_transformer import token_transformer
from fmjax.models.unet import unet

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(4, 4, 8, 2)), jnp.float32)
TOKENS = jnp.asarray(RNG.integers(0, 6, size=(4, 8)), jnp.int32)  # 5 of data, and the mask
T, CLASSES = jnp.array([0.1, 0.4, 0.6, 0.9]), jnp.array([0, 1, 2, 1])
WORDS = {"vocabulary": 5, "width": 16, "depth": 1, "heads": 2, "features": 16}
LEVELS = {"multipliers": (1,), "blocks": 1, "attention": ()}
NARROW = {"unet": unet, "edm_unet": edm_unet}
MODELS = {
    **{
        f"{name}, {n} channels": (make(channels=n, num_classes=3, **LEVELS), IMAGES)
        for name, make in NARROW.items()
        for n in (8, 16, 32)
    },
    "unet, scales": (unet(channels=8, num_classes=3, scale_shift_norm=True, **LEVELS), IMAGES),
    "unet, patches": (unet(channels=8, patch=2, num_classes=3, **LEVELS), IMAGES),
    "dit": (dit(patch=2, width=16, depth=1, heads=2, num_classes=3), IMAGES),
    "mlp": (mlp(width=16, depth=1, num_classes=3), IMAGES),
    "nnx_mlp": (nnx_mlp(width=16, depth=1, num_classes=3), IMAGES),
    "resmlp": (resmlp(width=16, depth=1, num_classes=3), IMAGES),
    "token_transformer": (token_transformer(num_classes=3, **WORDS), TOKENS),
    "token_transformer of masks": (token_transformer(num_classes=3, carry=True, **WORDS), TOKENS),
    "edit_transformer": (edit_transformer(num_classes=3, end=4, **WORDS), TOKENS % 4),
}  # fmt: skip


def born(model, batch):
    """Parameters of a network, or of a pair of them, with noise."""
    init = functools.partial(train.init_params, model)
    return filled(jax.eval_shape(init, jax.random.key(0), batch))


# the narrowest of each, and the widest whose groups are not ADM's; those between are like them
LATER = {"unet, 16 channels", "edm_unet, 16 channels", "edm_unet, 32 channels"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.complete] * (n in LATER)) for n in MODELS]
)
def test_a_network_changes_with_its_time_its_point_and_its_class(name):
    model, x = MODELS[name]
    params = born(model, types.Batch(x, CLASSES))
    net = jax.jit(model.apply)
    usual = net(params, T, x, CLASSES)
    assert inputs.effect(net(params, T[::-1], x, CLASSES), usual) > 0.01
    assert inputs.effect(net(params, T, x, (CLASSES + 1) % 3), usual) > 0.01
    assert inputs.effect(net(params, T, jnp.roll(x, 1, axis=0), CLASSES), usual) > 0.1


def test_an_autoencoder_changes_with_its_image():
    model = autoencoder(width=8, multipliers=(1,), latent=2)
    net = train.bind(model, born(model, types.Batch(IMAGES)))
    both = jax.jit(lambda x: (net.encoder(0.0, x), net(0.0, x)))
    for usual, other in zip(both(IMAGES), both(jnp.roll(IMAGES, 1, axis=0)), strict=True):
        assert inputs.effect(other, usual) > 0.1
