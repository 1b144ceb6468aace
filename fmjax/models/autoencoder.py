"""Convolutional variational autoencoders: the design of Stable Diffusion's, at any size."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax.models import _convolutional
from fmjax.types import Batch, Model, Params, PRNGKey


class Autoencoder(NamedTuple):
    """A model of two networks (or a net of two), which is called as reconstruction.

    `encoder(t, x) -> moments` `[b, h, w, 2c]`, read by `posterior`; `decoder(t, z) -> x`. Both
    ignore t, which is there because every net has it, and conditions.
    """

    encoder: Any
    decoder: Any

    def __call__(self, t: Any, x: Any, cond: Any = None, **kw: Any) -> Any:
        """D(mean of q(z|x)); of nets only."""
        return self.decoder(t, posterior(self.encoder(t, x, **kw))[0], **kw)


def posterior(
    moments: Float[Array, "b *n k"],
) -> tuple[Float[Array, "b *n c"], Float[Array, "b *n c"]]:
    """(mean, deviation) of q(z|x): the moments' halves, mean and log variance in [−30, 20]."""
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    return mean, jnp.exp(jnp.clip(log_variance, -30, 20) / 2)


def to_patches(x: Float[Array, "b h w c"], p: int) -> Float[Array, "b k l d"]:
    """p × p pixels as the channels of one place."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // p, w // p, p * p * c)


def from_patches(x: Float[Array, "b k l d"], p: int) -> Float[Array, "b h w c"]:
    """The inverse of `to_patches`."""
    b, rows, columns, d = x.shape
    x = x.reshape(b, rows, columns, p, p, d // p**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, rows * p, columns * p, d // p**2)


def kl_nats(mean: Float[Any, "b *n"], std: Float[Any, "b *n"]) -> Float[Array, " b"]:
    """KL(N(mean, std²) ‖ N(0, I)) = ½ Σ (mean² + std² − 1 − log std²), in nats an example."""
    each = 0.5 * (jnp.square(mean) + jnp.square(std) - 1) - jnp.log(std)
    return each.astype(jnp.float32).reshape(each.shape[0], -1).sum(axis=1)


def autoencoder(
    *,
    width: int = 32,
    multipliers: Sequence[int] = (1, 2),
    blocks: int = 1,
    latent: int = 4,
    attention: bool = False,
    groups: int = 8,
    patch: int = 1,
    quant: bool = True,
    dtype: Any = None,
) -> Autoencoder:
    """Images `[h, w, c]` ↔ latents `[h/f, w/f, latent]`, f = patch · 2^(levels − 1).

    width, multipliers: channels at the finest level, and their multiples level by level
    blocks:    residual blocks a level in the encoder; the decoder has one more
    attention: over the places of the coarsest level
    groups:    of the normalisations, fewer where they do not divide the channels
    patch:     pixels a side that are one place from the start: at 2 a quarter of the work, which
               small images on a CPU need
    quant:     1×1 maps of the moments and of z, as the published network has
    dtype:     of the computation; parameters and outputs keep float32

    ValueError: sides of the image that f does not divide.
    """
    options = {
        "widths": tuple(width * m for m in multipliers),
        "blocks": blocks,
        "attention": attention,
        "groups": groups,
        "patch": patch,
        "quant": quant,
        "dtype": dtype,
    }
    factor = patch * 2 ** (len(multipliers) - 1)

    def coded(x: Float[Array, "b h w c"]) -> Float[Array, "b k l d"]:
        _check_size(x, factor)
        b, h, w, _ = x.shape
        return jnp.zeros((b, h // factor, w // factor, latent), x.dtype)

    def decoder(channels: int) -> nn.Module:
        return _Decoder(channels=channels, **options)

    def encode(params: Params, t: Any, x: Any, cond: Any = None, *, key: Any = None) -> Any:
        del t, cond, key
        _check_size(x, factor)
        return encoder.apply({"params": params}, x).astype(x.dtype)

    def decode(params: Params, t: Any, z: Any, cond: Any = None, *, key: Any = None) -> Any:
        del t, cond, key
        channels = params["conv_out"]["bias"].shape[0] // patch**2
        return decoder(channels).apply({"params": params}, z).astype(z.dtype)

    encoder = _Encoder(latent=latent, **options)
    return Autoencoder(
        Model(_init(lambda x: (encoder, x)), encode),
        Model(_init(lambda x: (decoder(x.shape[-1]), coded(x))), decode),
    )


def sd_vae(*, dtype: Any = None) -> Autoencoder:
    """The autoencoder of Stable Diffusion 1 and 2: 83,653,863 parameters, f = 8, 4 channels.

    For images in [−1, 1]; `fmjax.pretrained.sd_vae` reads its published weights.
    Rombach et al. 2021 (2112.10752).
    """
    return autoencoder(
        width=128, multipliers=(1, 2, 4, 4), blocks=2, attention=True, groups=32, dtype=dtype
    )


def _init(made: Callable[[Any], tuple[nn.Module, Any]]) -> Callable[[PRNGKey, Batch], Params]:
    def init(key: PRNGKey, batch: Batch) -> Params:
        module, x = made(jnp.zeros((1, *batch.x1.shape[1:]), batch.x1.dtype))
        return module.init({"params": key}, x)["params"]

    return init


def _check_size(x: Any, factor: int) -> None:
    if len(x.shape) != 4 or x.shape[1] % factor or x.shape[2] % factor:
        raise ValueError(
            f"an image batch of shape {tuple(x.shape)}: expected [b, h, w, c] with h and w "
            f"multiples of {factor}. Crop or pad the images, or take fewer levels"
        )


class _Block(nn.Module):
    """x + W conv silu norm conv silu norm x."""

    width: int
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        h = x
        for i in (1, 2):
            h = jax.nn.silu(_norm(self.groups, self.dtype, f"norm{i}")(h))
            h = _convolutional.Convolution(self.width, dtype=self.dtype, name=f"conv{i}")(h)
        if x.shape[-1] != self.width:
            x = _convolutional.Convolution(self.width, 1, dtype=self.dtype, name="shortcut")(x)
        return x + h


def _norm(groups: int, dtype: Any, name: str) -> nn.Module:
    return _convolutional.GroupNorm(groups, 1e-6, dtype, name=name)


class _Net(nn.Module):
    """What encoder and decoder share."""

    widths: tuple[int, ...]
    blocks: int
    attention: bool
    groups: int
    patch: int
    quant: bool
    dtype: Any

    def conv(self, width: int, name: str, size: int = 3, **options: Any) -> nn.Module:
        """A convolution that keeps the image's size."""
        return _convolutional.Convolution(width, size, dtype=self.dtype, name=name, **options)

    def block(self, width: int, name: str) -> nn.Module:
        """A residual block."""
        return _Block(width, self.groups, self.dtype, name=name)

    def middle(self, x: Any) -> Any:
        """The coarsest level's blocks."""
        x = self.block(self.widths[-1], "middle0")(x)
        if self.attention:
            options = {"order": "qkv", "eps": 1e-6, "dtype": self.dtype}
            x = _convolutional.Attention(groups=self.groups, name="middle_attention", **options)(x)
        return self.block(self.widths[-1], "middle1")(x)

    def last(self, x: Any, width: int) -> Any:
        """conv silu norm."""
        x = jax.nn.silu(_norm(self.groups, self.dtype, "norm_out")(x))
        return self.conv(width, "conv_out")(x)


class _Encoder(_Net):
    latent: int = 4

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = self.conv(self.widths[0], "conv_in")(to_patches(x, self.patch))
        for i, width in enumerate(self.widths):
            for j in range(self.blocks):
                x = self.block(width, f"down{i}_{j}")(x)
            if i < len(self.widths) - 1:  # padded on one side only, as the published network is
                narrow = {"stride": 2, "padding": ((0, 1), (0, 1))}
                x = self.conv(width, f"down{i}_resize", **narrow)(x)
        x = self.last(self.middle(x), 2 * self.latent)
        return self.conv(2 * self.latent, "quant", 1)(x) if self.quant else x


class _Decoder(_Net):
    channels: int = 3

    @nn.compact
    def __call__(self, z: Any) -> Any:
        if self.quant:
            z = self.conv(z.shape[-1], "quant", 1)(z)
        x = self.middle(self.conv(self.widths[-1], "conv_in")(z))
        for i, width in enumerate(reversed(self.widths)):
            for j in range(self.blocks + 1):
                x = self.block(width, f"up{i}_{j}")(x)
            if i < len(self.widths) - 1:
                x = self.conv(width, f"up{i}_resize")(_convolutional.upsample(x))
        return from_patches(self.last(x, self.channels * self.patch**2), self.patch)
