"""The reader of published weights, on a small file with the real names, new and old."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from fmjax import codecs, train
from fmjax.models import autoencoder as models
from fmjax.pretrained import sd_vae
from fmjax.types import Batch

WIDTHS, LATENT = (4, 8, 8), 4
SMALL = models.autoencoder(
    width=4, multipliers=(1, 2, 2), blocks=2, latent=LATENT, attention=True, groups=2
)
RNG = np.random.default_rng(0)


def conv(name, size, a, b):
    yield f"{name}.weight", (b, a, size, size)
    yield f"{name}.bias", (b,)


def norm(name, a):
    yield f"{name}.weight", (a,)
    yield f"{name}.bias", (a,)


def resnet(name, a, b):
    yield from norm(f"{name}.norm1", a)
    yield from conv(f"{name}.conv1", 3, a, b)
    yield from norm(f"{name}.norm2", b)
    yield from conv(f"{name}.conv2", 3, b, b)
    if a != b:
        yield from conv(f"{name}.conv_shortcut", 1, a, b)


def middle(side, a):
    for i in (0, 1):
        yield from resnet(f"{side}.mid_block.resnets.{i}", a, a)
    name = f"{side}.mid_block.attentions.0"
    yield from norm(f"{name}.group_norm", a)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        yield f"{name}.{part}.weight", (a, a)
        yield f"{name}.{part}.bias", (a,)


def shapes():
    """The names in a published file, for these widths."""
    yield from conv("encoder.conv_in", 3, 3, WIDTHS[0])
    a = WIDTHS[0]
    for i, b in enumerate(WIDTHS):
        for j in range(2):
            yield from resnet(f"encoder.down_blocks.{i}.resnets.{j}", a, b)
            a = b
        if i < len(WIDTHS) - 1:
            yield from conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", 3, b, b)
    yield from middle("encoder", a)
    yield from norm("encoder.conv_norm_out", a)
    yield from conv("encoder.conv_out", 3, a, 2 * LATENT)
    yield from conv("quant_conv", 1, 2 * LATENT, 2 * LATENT)
    yield from conv("post_quant_conv", 1, LATENT, LATENT)
    yield from conv("decoder.conv_in", 3, LATENT, a)
    yield from middle("decoder", a)
    for i, b in enumerate(reversed(WIDTHS)):
        for j in range(3):
            yield from resnet(f"decoder.up_blocks.{i}.resnets.{j}", a, b)
            a = b
        if i < len(WIDTHS) - 1:
            yield from conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", 3, b, b)
    yield from norm("decoder.conv_norm_out", a)
    yield from conv("decoder.conv_out", 3, a, 3)


TENSORS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes()}


def old(name):
    """The name before diffusers 0.15."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    return re.sub(r"to_out\.0|to_[qkv]", lambda m: names[m.group()], name)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sd_vae") / "diffusion_pytorch_model.safetensors"
    save_file(TENSORS, path)
    return path


def test_every_tensor_finds_its_place_in_the_network(file):
    params = sd_vae.load(file, model=SMALL)
    assert train.total_parameters(params) == sum(a.size for a in TENSORS.values())
    init = functools.partial(train.init_params, SMALL)
    fresh = jax.eval_shape(init, jax.random.key(0), Batch(jnp.zeros((1, 8, 8, 3))))
    assert jax.tree.map(np.shape, fresh) == jax.tree.map(np.shape, params)
    kernel = params.decoder["up1_resize"]["kernel"]
    theirs = TENSORS["decoder.up_blocks.1.upsamplers.0.conv.weight"]
    np.testing.assert_array_equal(kernel, theirs.transpose(2, 3, 1, 0))
    keys = params.encoder["middle_attention"]["qkv"]["kernel"][:, 8:16]
    np.testing.assert_array_equal(keys, TENSORS["encoder.mid_block.attentions.0.to_k.weight"].T)


def test_old_names_and_convolutions_for_projections_are_read_alike(file, tmp_path):
    def as_conv(name, a):
        return a[:, :, None, None] if "attentions" in name and a.ndim == 2 else a

    save_file({old(n): as_conv(n, a) for n, a in TENSORS.items()}, tmp_path / "old.safetensors")
    found = sd_vae.load(tmp_path / "old.safetensors", model=SMALL)
    jax.tree.map(np.testing.assert_array_equal, found, sd_vae.load(file, model=SMALL))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("decoder.conv_in.bias"), r"conv_in.*bias.* is None in the file"),
        (lambda t: t.pop("quant_conv.weight"), r"lack 'quant_conv\.weight'"),
        (lambda t: t.update({"encoder.extra": np.zeros(2, np.float32)}), r"encoder\.extra"),
        (
            lambda t: t.update({"encoder.conv_out.bias": np.zeros(5, np.float32)}),
            r"conv_out.*\(5,\) in the file, expected \(8,\)",
        ),
    ],
)
def test_another_network_is_named(tmp_path, change, message):
    tensors = dict(TENSORS)
    change(tensors)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=message):
        sd_vae.load(tmp_path / "other.safetensors", model=SMALL)


def test_a_missing_or_other_file_says_where_to_get_it(tmp_path, file):
    with pytest.raises(FileNotFoundError, match=r"sd-vae-ft-mse \(SHA-256 a1d993488569"):
        sd_vae.codec(path=tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="SHA-256"):
        sd_vae.codec(path=file, sha256=sd_vae.FT_MSE)


def test_the_codec_scales_what_the_network_makes_of_bytes(file, monkeypatch):
    monkeypatch.setattr(sd_vae, "published", lambda dtype: SMALL)
    codec = sd_vae.codec(path=file, scale=0.5, shift=1.0)
    x = jnp.asarray(RNG.uniform(0, 255, (2, 8, 8, 3)), jnp.float32)
    params = sd_vae.load(file, model=SMALL)
    moments = jax.jit(SMALL.encoder.apply)(params.encoder, 1.0, x / 127.5 - 1)
    mean, std = models.posterior(moments)
    scaled = jax.jit(codec.posterior)(x)
    np.testing.assert_allclose(scaled[0], (mean - 1) * 0.5, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(scaled[1], std * 0.5, rtol=2e-3)
    images = jax.jit(codec.decode)(scaled[0])
    assert images.shape == x.shape
    assert images.min() >= 0
    assert images.max() <= 255
    np.testing.assert_allclose(images, np.round(images), atol=1e-4)


def test_what_the_codec_depends_on_are_file_scale_and_pixels(file, monkeypatch):
    monkeypatch.setattr(sd_vae, "published", lambda dtype: SMALL)
    unit = codecs.affine(low=0.0, high=1.0)
    made = [
        sd_vae.codec(path=file, **options).depends_on
        for options in ({}, {}, {"scale": 0.13}, {"pixels": unit}, {"shift": 0.1})
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 4
