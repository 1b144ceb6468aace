"""DDPM++ and NCSN++ as EDM trains them, and EDM's prediction as a row of coordinates."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax import paths, types
from fmjax.models import _common, _convolutional

_XAVIER = nn.initializers.xavier_uniform()
_TINY = nn.initializers.variance_scaling(1e-10, "fan_avg", "uniform")
_FIFTH = nn.initializers.variance_scaling(0.2, "fan_avg", "uniform")
_HALF = 0.5**0.5
Resample = Callable[[Any], Any] | None


def log_ratio(t: Float[Array, " b"]) -> Float[Array, " b"]:
    """¼ ln(σ/α) on the straight path, (1 − t)/t, within EDM's noise levels 0.002 … 80."""
    # clipped before the division: its derivative is finite at both ends
    t = jnp.clip(t, 1 / 81, 1 / 1.002)
    return jnp.log((1 - t) / t) / 4


def thousand(t: Float[Array, " b"]) -> Float[Array, " b"]:
    """999 (1 − t): the number of a step of 1,000, as the networks of score_sde have it."""
    return 999 * (1 - t)


def edm_row(path: paths.Path, t: Any, *, sigma_data: float | int = 0.5) -> tuple[Array, Array]:
    """(σ/s, −s α)/√(σ² + s² α²), s = `sigma_data`: the target of EDM's network F, unit variance.

    D = c_skip x + c_out F with noise level σ/α, solved for F, as a row for `config.predict`; it
    is singular nowhere. Karras et al. 2022 (2206.00364), eq. 7 and table 1. Their c_in is left to
    the network's first layer: on a straight path the deviation of x_t varies by 2.3 at most.
    """
    alpha, sigma = path.alpha(t), path.sigma(t)
    norm = jnp.sqrt(sigma**2 + (sigma_data * alpha) ** 2)
    return sigma / (sigma_data * norm), -sigma_data * alpha / norm


def edm_grid(u: np.ndarray, *, rho: float | int = 7) -> np.ndarray:
    """EDM's times 1/(1 + level) for a sampler's `grid`, of levels 80 … 0.002, then 0, spaced in ρ.

    n steps for n + 1 numbers `u`. Where theirs begins at level 80, a time of 1/81, ours begins at
    0, as all runs here do. Karras et al. 2022 (2206.00364), eq. 5; at least two steps.
    """
    ends = 80.0 ** (1 / rho), 0.002 ** (1 / rho)
    levels = np.linspace(*ends, max(len(u) - 1, 2)) ** rho
    return np.concatenate([[0.0], 1 / (1 + levels[1:]), [1.0]])


def halve(x: Float[Array, "b h w c"]) -> Float[Array, "b y x c"]:
    """(1, 3, 3, 1)/8 along each axis at every second pixel, zeros around."""
    return _filtered(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))


def _filtered(x: Any) -> Any:
    for axis in (1, 2):
        n = x.shape[axis] // 2 - 1
        parts = (jax.lax.slice_in_dim(x, s, s + 2 * n - 1, 2, axis) for s in range(4))
        first, second, third, fourth = parts
        x = (first + 3 * second + 3 * third + fourth) / 8
    return x


def double(x: Float[Array, "b h w c"]) -> Float[Array, "b y x c"]:
    """The transpose of `halve`, times 4: each new pixel is ¾ of the near and ¼ of the next one."""
    for axis in (1, 2):
        n = x.shape[axis]
        around = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)])
        before, after = (jax.lax.slice_in_dim(around, s, s + n, axis=axis) for s in (0, 2))
        pair = jnp.stack([3 * x + before, 3 * x + after], axis=axis + 1) / 4
        x = pair.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    return x


class _Block(nn.Module):
    """√½ (skip(x) + conv(drop(silu(norm(conv(silu(norm(x))) + W c))))), then attention alike."""

    deterministic: bool
    channels: int
    dropout: float
    dtype: Any
    resample: Resample = None
    attention: bool = False

    @nn.compact
    def __call__(self, x: Any, c: Any) -> Any:
        change = self.resample or (lambda h: h)
        options = {"dtype": self.dtype, "kernel_init": _XAVIER}
        h = change(jax.nn.silu(self.norm(x, "norm_in")))
        h = self.convolution("conv_in", _XAVIER)(h)
        h = h + _common.dense(c, self.channels, name="modulation", **options)[:, None, None]
        h = jax.nn.silu(self.norm(h, "norm_out"))
        h = nn.Dropout(self.dropout, deterministic=self.deterministic)(h)
        h = self.convolution("conv_out", _TINY)(h)
        if x.shape[-1] != self.channels or self.resample:
            x = _common.dense(change(x), self.channels, name="skip", **options)
        x = (x + h) * _HALF
        if self.attention:
            options = {"dtype": self.dtype, "kernel_init": _FIFTH, "out_init": _TINY}
            options |= {"groups": _groups(self.channels), "eps": 1e-6}
            x = _convolutional.Attention(1, name="attention", **options)(x) * _HALF
        return x

    def norm(self, x: Any, name: str) -> Any:
        groups = _groups(x.shape[-1])
        return _convolutional.GroupNorm(groups, 1e-6, self.dtype, name=name)(x)

    def convolution(self, name: str, init: Any) -> nn.Module:
        options = {"dtype": self.dtype, "kernel_init": init, "name": name}
        return _convolutional.Convolution(self.channels, **options)


def _groups(channels: int) -> int:
    return max(1, min(32, channels // 4))


class _EDMUNet(nn.Module):
    deterministic: bool
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    residual_input: bool
    fourier: bool
    smooth: bool
    dropout: float
    num_classes: _common.Classes
    label: Callable[..., Any]
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> Any:
        _convolutional.check_images(x, len(self.multipliers))
        c = self.embedding(t, cond)
        down = halve if self.smooth else _convolutional.downsample
        up = double if self.smooth else _convolutional.upsample
        widths = [self.channels * m for m in self.multipliers]

        h, aux = self.convolution(self.channels, "input")(x), x
        kept = [h]
        for level, width in enumerate(widths):
            if level:
                h = self.block(h, c, f"down_{level}", h.shape[-1], resample=down)
                if self.residual_input:
                    # convolved before the filter, which then needs no zeros around its input
                    pad = 2 if self.smooth else 1
                    options = {"padding": ((pad, pad), (pad, pad))}
                    aux = self.convolution(h.shape[-1], f"input_{level}", **options)(aux)
                    aux = _filtered(aux) if self.smooth else _convolutional.downsample(aux)
                    h = aux = (h + aux) * _HALF
                kept.append(h)
            for i in range(self.blocks):
                attends = 2**level in self.attention
                h = self.block(h, c, f"down_{level}_{i}", width, attends)
                kept.append(h)

        h = self.block(h, c, "middle_0", widths[-1], attends=True)
        h = self.block(h, c, "middle_1", widths[-1])
        for level, width in reversed(list(enumerate(widths))):
            if level < len(widths) - 1:
                h = self.block(h, c, f"up_{level}", h.shape[-1], resample=up)
            for i in range(self.blocks + 1):
                attends = i == self.blocks and 2**level in self.attention
                h = jnp.concatenate([h, kept.pop()], axis=-1)
                h = self.block(h, c, f"up_{level}_{i}", width, attends)

        norm = _convolutional.GroupNorm(_groups(h.shape[-1]), 1e-6, name="norm")
        h = jax.nn.silu(norm(h.astype(x.dtype)))
        return _convolutional.Convolution(x.shape[-1], kernel_init=_TINY, name="output")(h)

    def embedding(self, t: Any, cond: Any) -> Any:
        n, label = (1 + self.fourier) * self.channels, self.label(t)
        if self.fourier:
            # drawn once for all: a constant, not a parameter
            frequencies = 2 * np.pi * 16 * np.random.default_rng(0).normal(size=n // 2)
        else:
            frequencies = 10_000.0 ** -(np.arange(n // 2) / max(n // 2 - 1, 1))
        angles = label[:, None] * jnp.asarray(frequencies, label.dtype)[None]
        c = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        if cond is not None:
            c = c + _common.condition(cond, n, self.num_classes, self.dtype)
        options = {"dtype": self.dtype, "kernel_init": _XAVIER}
        c = jax.nn.silu(nn.Dense(4 * self.channels, name="time_in", **options)(c))
        return jax.nn.silu(nn.Dense(4 * self.channels, name="time_out", **options)(c))

    def block(
        self,
        h: Any,
        c: Any,
        name: str,
        channels: int,
        attends: bool = False,
        resample: Resample = None,
    ) -> Any:
        block = nn.remat(_Block) if self.remat else _Block
        options = (channels, self.dropout, self.dtype, resample, attends)
        return block(self.deterministic, *options, name=name)(h, c)

    def convolution(self, features: int, name: str, **options: Any) -> nn.Module:
        options |= {"dtype": self.dtype, "kernel_init": _XAVIER, "name": name}
        return _convolutional.Convolution(features, **options)


def edm_unet(
    *,
    channels: int = 128,
    multipliers: Sequence[int] = (2, 2, 2),
    blocks: int = 4,
    attention: Sequence[int] = (2,),
    residual_input: bool = False,
    fourier: bool = False,
    smooth: bool = False,
    dropout: float = 0.13,
    num_classes: _common.Classes = None,
    label: Callable[..., Any] = log_ratio,
    dtype: Any = None,
    remat: bool = False,
) -> types.Model:
    """The U-Net of score_sde on images `[b, h, w, c]`, almost 0 at the start.

    The defaults are EDM's DDPM++ for CIFAR-10; NCSN++ is `residual_input`, `fourier` and `smooth`
    (the smaller image is convolved and added at every level; random frequencies; resampling by
    (1, 3, 3, 1)). label: what the frequencies multiply, a function of t; `thousand` is score_sde's.
    attention: factors of downsampling at which blocks attend. remat: less memory, more time.
    The embedding of EDM's augmentations (9 x `channels` parameters) is not here.
    As EDM's network F: `config.predict = dict(bind="fmjax.models.edm_unet:edm_row")`.
    Song et al. 2020 (2011.13456), appendix H; Karras et al. 2022 (2206.00364), table 7.
    """
    if channels % 2:
        raise ValueError(f"channels={channels}: expected an even number, of cosines and sines of t")
    options = (
        channels, tuple(multipliers), blocks, tuple(attention), residual_input, fourier, smooth,
        dropout, num_classes, label, dtype, remat,
    )  # fmt: skip

    return _common.model(lambda deterministic: _EDMUNet(deterministic, *options))
