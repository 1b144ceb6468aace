"""The U-Net of ADM, as TorchCFM and Meta's flow_matching use it: residual blocks and attention."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax import types
from fmjax.models import _common, _convolutional, _patches


class Layout(NamedTuple):
    """What a block does, read off the sizes alone: the network and readers of weights follow it."""

    name: str
    channels: int
    attention: bool = False
    resample: bool = False  # down by 2 instead of the block, up by 2 after it


def layout(
    channels: int, multipliers: Sequence[float | int], blocks: int, attention: Sequence[int]
) -> tuple[list[Layout], list[Layout]]:
    """The blocks on the way down and on the way up; `attention`: factors of downsampling."""
    widths = [int(channels * m) for m in multipliers]
    down: list[Layout] = []
    for level, width in enumerate(widths):
        for _ in range(blocks):
            name = f"down_{len(down) + 1}"
            down.append(Layout(name, width, attention=2**level in attention))
        if level < len(widths) - 1:
            down.append(Layout(f"down_{len(down) + 1}", width, resample=True))
    up: list[Layout] = []
    for level, width in reversed(list(enumerate(widths))):
        for i in range(blocks + 1):
            last = level > 0 and i == blocks
            up.append(Layout(f"up_{len(up)}", width, 2**level in attention, last))
    return down, up


def time_features(t: Float[Array, " b"], n: int, scale: float | int = 1.0) -> Float[Array, " b n"]:
    """[cos ωₖ t, sin ωₖ t], ωₖ = scale · 10000^(−k/(n/2)), k = 0 … n/2 − 1."""
    frequencies = scale * 10_000.0 ** -(np.arange(n // 2) / (n // 2))
    angles = t[:, None] * jnp.asarray(frequencies, t.dtype)[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _unchanged(x: Any) -> Any:
    return x


class _Block(nn.Module):
    """skip(x) + conv(drop(silu(norm(conv(silu(norm(x))), c))))."""

    deterministic: bool
    channels: int
    dropout: float
    scale_shift_norm: bool
    norm_groups: int | None
    dtype: Any
    resample: Callable[[Any], Any] = _unchanged

    @nn.compact
    def __call__(self, x: Any, c: Any) -> Any:
        h = self.resample(jax.nn.silu(self.norm("norm_in")(x)))
        x = self.resample(x)
        h = self.convolution("conv_in", _convolutional.UNIFORM)(h)
        wide = (1 + self.scale_shift_norm) * self.channels
        options = {"dtype": self.dtype, "kernel_init": _convolutional.UNIFORM}
        c = _common.dense(jax.nn.silu(c), wide, name="modulation", **options)[:, None, None]
        if self.scale_shift_norm:
            scale, shift = jnp.split(c, 2, axis=-1)
            h = _common.modulate(self.norm("norm_out")(h), shift, scale)
        else:
            groups = self.norm_groups or _convolutional.mixing_groups(self.channels)
            h = self.norm("norm_out", groups)(h + c)
        h = nn.Dropout(self.dropout, deterministic=self.deterministic)(jax.nn.silu(h))
        h = self.convolution("conv_out", _convolutional.ZEROS)(h)
        if x.shape[-1] != self.channels:
            x = _common.dense(x, self.channels, name="skip", **options)
        return x + h

    def norm(self, name: str, groups: int = 32) -> nn.Module:
        return _convolutional.GroupNorm(groups, dtype=self.dtype, name=name)

    def convolution(self, name: str, init: Any) -> nn.Module:
        options = {"dtype": self.dtype, "kernel_init": init, "name": name}
        return _convolutional.Convolution(self.channels, **options)


class _UNet(nn.Module):
    deterministic: bool
    channels: int
    multipliers: tuple[float | int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int
    head_channels: int | None
    new_attention_order: bool
    conv_resample: bool
    resblock_updown: bool
    dropout: float
    scale_shift_norm: bool
    norm_groups: int | None
    num_classes: _common.Classes
    time_scale: float | int
    patch: int
    dtype: Any
    remat: bool
    policy: Any

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> Any:
        _convolutional.check_images(x, len(self.multipliers), self.patch)
        if self.patch == 1:
            return self.velocity(t, x, cond)
        shape = (x.shape[0], x.shape[1] // self.patch, x.shape[2] // self.patch, -1)
        v = self.velocity(t, _patches.patchify(x, self.patch).reshape(shape), cond)
        tokens = v.reshape(x.shape[0], -1, v.shape[-1])
        return _patches.unpatchify(tokens, self.patch, x.shape)

    def velocity(self, t: Any, x: Any, cond: Any) -> Any:
        c = self.embedding(t, cond)
        first = int(self.channels * self.multipliers[0])
        h = self.convolution(first, "input")(x)
        down, up = layout(self.channels, self.multipliers, self.blocks, self.attention)

        kept = [h]
        for at in down:
            h = (
                self.down(h, at)
                if at.resample and not self.resblock_updown
                else self.block(h, c, at, _convolutional.downsample if at.resample else _unchanged)
            )
            kept.append(h)
        for at in _middle(h.shape[-1]):
            h = self.block(h, c, at)
        for at in up:
            h = self.block(jnp.concatenate([h, kept.pop()], axis=-1), c, at)
            if at.resample:
                h = self.up(h, c, at)

        h = _convolutional.GroupNorm(name="norm")(h.astype(x.dtype))
        options = {"kernel_init": _convolutional.ZEROS, "name": "output"}
        return _convolutional.Convolution(x.shape[-1], **options)(jax.nn.silu(h))

    def embedding(self, t: Any, cond: Any) -> Any:
        width = 4 * self.channels
        options = {"dtype": self.dtype, "kernel_init": _convolutional.UNIFORM}
        c = time_features(t, self.channels, self.time_scale)
        c = jax.nn.silu(nn.Dense(width, name="time_in", **options)(c))
        c = nn.Dense(width, name="time_out", **options)(c)
        if cond is None:
            return c
        return c + _common.condition(cond, width, self.num_classes, self.dtype)

    def block(
        self, h: Any, c: Any, at: Layout, resample: Any = _unchanged, suffix: str = ""
    ) -> Any:
        block, attention = _Block, _convolutional.Attention
        if self.remat:
            block, attention = (nn.remat(a, policy=self.policy) for a in (block, attention))
        options = (self.dropout, self.scale_shift_norm, self.norm_groups, self.dtype, resample)
        name = at.name + suffix
        h = block(self.deterministic, at.channels, *options, name=name)(h, c)
        if at.attention:
            heads = at.channels // self.head_channels if self.head_channels else self.heads
            order = "qkv" if self.new_attention_order else "heads"
            h = attention(heads, order, dtype=self.dtype, name=f"{name}_attention")(h)
        return h

    def down(self, h: Any, at: Layout) -> Any:
        if not self.conv_resample:
            return _convolutional.downsample(h)
        return self.convolution(at.channels, f"{at.name}_resample", stride=2)(h)

    def up(self, h: Any, c: Any, at: Layout) -> Any:
        if self.resblock_updown:
            plain = at._replace(attention=False)
            return self.block(h, c, plain, _convolutional.upsample, "_resample")
        h = _convolutional.upsample(h)
        return self.convolution(at.channels, f"{at.name}_resample")(h) if self.conv_resample else h

    def convolution(self, features: int, name: str, stride: int = 1) -> nn.Module:
        options = {"stride": stride, "dtype": self.dtype, "name": name}
        return _convolutional.Convolution(features, **options)


def _middle(channels: int) -> Iterator[Layout]:
    yield Layout("middle_0", channels, attention=True)
    yield Layout("middle_1", channels)


def unet(
    *,
    channels: int = 128,
    multipliers: Sequence[float | int] = (1, 2, 2, 2),
    blocks: int = 2,
    attention: Sequence[int] = (2,),
    heads: int = 1,
    head_channels: int | None = None,
    new_attention_order: bool = False,
    conv_resample: bool = True,
    resblock_updown: bool = False,
    dropout: float = 0.0,
    scale_shift_norm: bool = False,
    norm_groups: int | None = None,
    num_classes: _common.Classes = None,
    time_scale: float | int = 1.0,
    patch: int = 1,
    dtype: Any = None,
    remat: bool = False,
    policy: Callable[..., Any] | None = None,
) -> types.Model:
    """A U-Net on images `[b, h, w, c]`, `channels · multipliers` wide; v = 0 at the start.

    blocks:   residual blocks a level on the way down, one more on the way up
    attention: factors of downsampling at which blocks attend: 2 is 16 × 16 for images of 32 × 32
    head_channels: channels of a head; then their number follows, and `heads` is not used
    new_attention_order: how qkv divides into heads; it matters for others' weights alone
    conv_resample: convolutions, not means and copies, between levels; resblock_updown: blocks
    scale_shift_norm: the embedding of t and the condition scales, too, instead of only adding
    norm_groups: of the norm that follows an added embedding. None: 32, or fewer, so that each has 2
              channels. One of one channel would remove the embedding, and with it t and cond:
              TorchCFM's 32 groups do so where a level has 32 channels, and its weights want 32 here
    time_scale: the fastest angular frequency of the features of t in [0, 1]; the peers' is 1
    patch:    squares of so many pixels become channels first, and pixels again at the end: the
              finest level, the dearest one, then has 1/patch² of the places
    dtype:    of the computation; the parameters stay float32
    remat:    blocks are computed anew in the backward pass, but for what `policy` (one of
              `jax.checkpoint_policies`) keeps: less memory, about a third more time

    TorchCFM's CIFAR-10 network is (128, (1, 2, 2, 2), 2, (2,)) with head_channels=64, dropout=0.1.
    Its class table has a row more than TorchCFM's: the absent class, `null = num_classes`.
    Dhariwal & Nichol 2021, arXiv 2105.05233; Tong et al. 2023, arXiv 2302.00482.
    """
    if channels % 2:
        raise ValueError(f"channels={channels}: expected an even number, of cosines and sines of t")
    if patch < 1:
        raise ValueError(f"patch={patch}: expected at least 1, the width of a square of pixels")
    _common.check_policy(remat, policy)
    down, up = layout(channels, multipliers, blocks, attention)
    narrow = [m for m in multipliers if int(channels * m) < 2]
    if narrow and not scale_shift_norm and norm_groups is None:
        raise ValueError(
            f"channels={channels} with multipliers={list(multipliers)}: {narrow[0]} leaves a level "
            "of less than 2 channels, whose norm would remove t and the condition; expected at "
            "least 2. Choose more channels, or scale_shift_norm=True."
        )
    attending = {at.channels for at in (*down, *up, *_middle(up[0].channels)) if at.attention}
    divisor = head_channels or heads
    if any(width % divisor for width in attending):
        what = "head_channels" if head_channels else "heads"
        raise ValueError(
            f"widths {sorted(attending)}, of the blocks that attend, with {what}={divisor}: "
            f"expected multiples of {divisor}. Choose {what} that divides them; the middle, as "
            f"wide as the last of multipliers={list(multipliers)}, always attends."
        )
    options = (
        channels, tuple(multipliers), blocks, tuple(attention), heads, head_channels,
        new_attention_order, conv_resample, resblock_updown, dropout, scale_shift_norm,
        norm_groups, num_classes, time_scale, patch, dtype, remat, policy,
    )  # fmt: skip
    return _common.model(lambda deterministic: _UNet(deterministic, *options))
