"""Stable Diffusion's autoencoder with its published weights, read from a file given by path.

    config.codec = dict(name="fmjax.pretrained.sd_vae:codec", path="~/sd-vae-ft-ema.safetensors")

The file is `diffusion_pytorch_model.safetensors` (335 MB) of stabilityai/sd-vae-ft-ema or
stabilityai/sd-vae-ft-mse on the Hugging Face hub, or of the `vae` folder of a Stable Diffusion 1
or 2; tensors have the names of diffusers' AutoencoderKL, old or new.
"""

import os
from typing import Any

import jax
import numpy as np

from fmjax import codecs
from fmjax.models.autoencoder import Autoencoder, posterior
from fmjax.models.autoencoder import sd_vae as published
from fmjax.pretrained import _common
from fmjax.types import Batch

WHAT = "Stable Diffusion's autoencoder"
FT_MSE = "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"
WHERE = (
    "diffusion_pytorch_model.safetensors of stabilityai/sd-vae-ft-ema or stabilityai/sd-vae-ft-mse "
    f"(SHA-256 {FT_MSE}) on the Hugging Face hub, and give its path"
)
# an attention's layers: as files have called them since diffusers 0.15, and before
NEW = ("to_q", "to_k", "to_v", "to_out.0")
OLD = ("query", "key", "value", "proj_attn")


def codec(
    *,
    path: str | os.PathLike[str],
    scale: float | int = 0.18215,
    shift: float | int = 0.0,
    pixels: codecs.Codec | None = None,
    sha256: str | None = None,
    dtype: Any = None,
) -> codecs.Codec:
    """z = (mean of q(z|x) − shift)·scale, the published 0.18215 making its variance about 1.

    Images `[h, w, 3]`, h and w multiples of 8, become latents `[h/8, w/8, 4]`.
    pixels: from data space to [−1, 1]; by default from bytes 0..255, decoded to whole ones
    sha256: the hash that the file must have, or its beginning; dtype: of the computation

    FileNotFoundError, ValueError: no such file, or another one.
    """
    file = _common.found(path, what=WHAT, where=WHERE, sha256=sha256)
    model = published(dtype=dtype)
    weights = load(file, model=model)

    def make(params: Any) -> codecs.Codec:
        return codecs.latent(
            lambda x: posterior(model.encoder.apply(params.encoder, 1.0, x)),
            lambda z: model.decoder.apply(params.decoder, 1.0, z),
            pixels=pixels or codecs.affine(low=0.0, high=255.0, levels=256),
            mean=shift,
            std=1 / scale,
        )

    depends = f"sd_vae {_common.sha256_of(file)} {scale} {shift} {dtype} {_points(pixels)}"
    return codecs.with_arrays(make, weights, depends_on=depends)


def load(path: str | os.PathLike[str], *, model: Autoencoder | None = None) -> Autoencoder:
    """The file's parameters, float32, as those of `model` (by default the published network).

    ValueError, with the first that differs: tensors missing, left over, or of other sizes.
    """
    model = model or published()
    like = jax.eval_shape(
        lambda key: [m.init(key, Batch(jax.numpy.zeros((1, 64, 64, 3)))) for m in model],
        jax.random.key(0),
    )
    taker = _common.Taker(_common.tensors(path), WHAT)
    found = convert(taker, blocks=_blocks(like[0]), levels=_levels(like[0]))
    taker.done()
    for want, got in zip(like, found, strict=True):
        _check(want, got)
    return jax.tree.map(lambda a: np.asarray(a, np.float32), found)


def convert(taker: _common.Taker, *, blocks: int, levels: int) -> Autoencoder:
    """The tensors of diffusers' AutoencoderKL as parameters of `models.autoencoder`."""

    def block(name: str) -> dict[str, Any]:
        layers = {f"norm{i}": taker.norm(f"{name}.norm{i}") for i in (1, 2)}
        layers |= {f"conv{i}": taker.conv(f"{name}.conv{i}") for i in (1, 2)}
        if f"{name}.conv_shortcut.weight" in taker:
            layers["shortcut"] = taker.conv(f"{name}.conv_shortcut")
        return layers

    def attention(name: str) -> dict[str, Any]:
        new = f"{name}.to_q.weight" in taker
        q, k, v, out = (taker.linear(f"{name}.{part}") for part in (NEW if new else OLD))
        qkv = {kind: np.concatenate([q[kind], k[kind], v[kind]], axis=-1) for kind in q}
        return {"norm": taker.norm(f"{name}.group_norm"), "qkv": qkv, "out": out}

    def half(side: str, level: str, count: int, resize: str, quant: str) -> dict[str, Any]:
        short = level.removesuffix("_blocks")
        layers = {"conv_in": taker.conv(f"{side}.conv_in")}
        for i in range(levels):
            name = f"{side}.{level}.{i}"
            layers |= {f"{short}{i}_{j}": block(f"{name}.resnets.{j}") for j in range(count)}
            if i < levels - 1:
                layers[f"{short}{i}_resize"] = taker.conv(f"{name}.{resize}.0.conv")
        layers |= {f"middle{i}": block(f"{side}.mid_block.resnets.{i}") for i in (0, 1)}
        layers["middle_attention"] = attention(f"{side}.mid_block.attentions.0")
        layers["norm_out"] = taker.norm(f"{side}.conv_norm_out")
        layers["conv_out"] = taker.conv(f"{side}.conv_out")
        return layers | {"quant": taker.conv(quant)}

    return Autoencoder(
        half("encoder", "down_blocks", blocks, "downsamplers", "quant_conv"),
        half("decoder", "up_blocks", blocks + 1, "upsamplers", "post_quant_conv"),
    )


def _levels(encoder: Any) -> int:
    return len([name for name in encoder if name.endswith("_resize")]) + 1


def _blocks(encoder: Any) -> int:
    return len([name for name in encoder if name.startswith("down0_")]) - (
        "down0_resize" in encoder
    )


def _check(want: Any, got: Any) -> None:
    wanted = {jax.tree_util.keystr(k): s.shape for k, s in jax.tree.leaves_with_path(want)}
    found = {jax.tree_util.keystr(k): a.shape for k, a in jax.tree.leaves_with_path(got)}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{WHAT}: {name} is {found.get(name)} in the file, expected {wanted.get(name)}: "
                "the weights are those of an autoencoder of another size"
            )


def _points(pixels: codecs.Codec | None) -> Any:
    """What `pixels` makes of a few numbers, which tells two affine codecs apart."""
    if pixels is None:
        return "bytes"
    there = pixels.encode(jax.numpy.asarray([[-1.0, 0.0, 1.0, 255.0]]))
    # out of range and between levels, too
    back = pixels.decode(jax.numpy.asarray([[-2.0, -0.999, 0.001, 2.0]]))
    return [np.asarray(points).tolist() for points in (there, back)]
