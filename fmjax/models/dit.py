"""The diffusion transformer: patches, attention, adaLN-Zero."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax import types
from fmjax.models import _common

_XAVIER = nn.initializers.xavier_uniform()


def patchify(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b n k"]:
    """Images as n = h/p · w/p tokens, row by row, of k = p · p · c numbers.

    Raises ValueError unless h and w are multiples of `patch`.
    """
    b, h, w, c = x.shape
    if h % patch or w % patch:
        raise ValueError(
            f"images of {h}x{w} do not divide into patches of {patch}x{patch}; expected height and "
            f"width to be multiples of {patch}. Choose another patch, or pad or crop the images."
        )
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def unpatchify(
    tokens: Float[Array, "b n k"], patch: int, shape: tuple[int, ...]
) -> Float[Array, "b h w c"]:
    """The inverse of `patchify`, to images of `shape`."""
    b, h, w, c = shape
    x = tokens.reshape(b, h // patch, w // patch, patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(shape)


def positions(rows: int, columns: int, width: int) -> np.ndarray:
    """`[rows · columns, width]`: sines and cosines of the row, then of the column, a quarter each.

    Frequencies fall geometrically from 1 to 1/10000, as in Vaswani et al. 2017 (arXiv 1706.03762).
    """
    frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    angles = grid.reshape(-1, 2, 1) * frequencies[None, None, :]
    codes = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    return codes.reshape(-1, width).astype(np.float32)


def attend(
    q: Float[Array, "b n h d"], k: Float[Array, "b m h d"], v: Float[Array, "b m h d"]
) -> Float[Array, "b n h d"]:
    """softmax(q kᵀ / √d) v for each head, the softmax in float32 whatever the inputs are.

    Written out, not a fused kernel, so that forward-mode derivatives (`jax.jvp`) pass through it.
    """
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * q.shape[-1] ** -0.5, axis=-1)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(v.dtype), v)


class _Attention(nn.Module):
    heads: int
    qk_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        b, n, width = x.shape
        options = {"dtype": self.dtype, "kernel_init": _XAVIER}
        qkv = _common.dense(x, 3 * width, name="qkv", **options)
        qkv = qkv.reshape(b, n, 3, self.heads, width // self.heads)
        q, k, v = (qkv[:, :, i] for i in range(3))
        if self.qk_norm:
            q = nn.RMSNorm(dtype=self.dtype, name="q_norm")(q)
            k = nn.RMSNorm(dtype=self.dtype, name="k_norm")(k)
        out = attend(q, k, v).reshape(b, n, width)
        return _common.dense(out, width, name="out", **options)


class _Block(nn.Module):
    """x + gate · attention(norm(x)), then x + gate · MLP(norm(x)); the identity at the start."""

    deterministic: bool
    heads: int
    mlp_ratio: int
    dropout: float
    qk_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Any, c: Any) -> Any:
        width, zeros = x.shape[-1], nn.initializers.zeros_init()
        modulation = self.dense(jax.nn.silu(c), 6 * width, "modulation", zeros)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)

        y = _common.modulate(self.norm(x), shift1, scale1)
        y = _Attention(self.heads, self.qk_norm, self.dtype, name="attention")(y)
        x = x + gate1 * self.drop(y)

        y = _common.modulate(self.norm(x), shift2, scale2)
        y = self.dense(y, self.mlp_ratio * width, "mlp_in")
        y = self.drop(jax.nn.gelu(y))
        return x + gate2 * self.dense(y, width, "mlp_out")

    def norm(self, x: Any) -> Any:
        return nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype)(x)

    def drop(self, x: Any) -> Any:
        return nn.Dropout(self.dropout, deterministic=self.deterministic)(x)

    def dense(self, x: Any, features: int, name: str, init: Any = _XAVIER) -> Any:
        return _common.dense(x, features, dtype=self.dtype, kernel_init=init, name=name)


class _DiT(nn.Module):
    deterministic: bool
    patch: int
    width: int
    depth: int
    features: int
    num_classes: _common.Classes
    dtype: Any
    remat: bool
    block: tuple[Any, ...]

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> Any:
        if x.ndim != 4:
            raise ValueError(
                f"x has shape {x.shape}; expected images [b, height, width, channels]. "
                "Reshape the data, or use fmjax.models.resmlp for other shapes."
            )
        c = _common.embed(t, cond, self.width, self.features, self.num_classes, self.dtype)
        c = c[:, None, :]
        tokens = patchify(x, self.patch)
        options = {"dtype": self.dtype, "kernel_init": _XAVIER, "name": "input"}
        h = _common.dense(tokens, self.width, **options)
        grid = positions(x.shape[1] // self.patch, x.shape[2] // self.patch, self.width)
        h = h + jnp.asarray(grid, h.dtype)[None]
        block = nn.remat(_Block) if self.remat else _Block
        for i in range(self.depth):
            h = block(self.deterministic, *self.block, self.dtype, name=f"block_{i}")(h, c)
        out = _common.Head(tokens.shape[-1], self.dtype, name="output")(h, c)
        return unpatchify(out, self.patch, x.shape)


def dit(
    *,
    patch: int = 2,
    width: int = 128,
    depth: int = 6,
    heads: int = 4,
    mlp_ratio: int = 4,
    features: int = 256,
    num_classes: _common.Classes = None,
    dropout: float = 0.0,
    qk_norm: bool = False,
    dtype: Any = None,
    remat: bool = False,
) -> types.Model:
    """A transformer on patches of images `[b, h, w, c]`; adaLN-Zero blocks, v = 0 at the start.

    `dropout` acts on the attention's output and inside the MLP. `qk_norm` bounds the attention's
    logits by √(width/heads) times learned scales: use it with bfloat16 or in long runs that
    diverge. `dtype` is that of the computation; the parameters stay float32. `remat` recomputes
    each block in the backward pass: about a third more time, far less memory; useless for small
    models. S/2, B/2, L/2, XL/2 are (width, depth, heads) = (384, 12, 6), (768, 12, 12),
    (1024, 24, 16), (1152, 28, 16). Peebles & Xie 2022, arXiv 2212.09748.
    """
    if width % heads or width % 4:
        raise ValueError(
            f"width {width} with {heads} heads: expected a multiple of the heads and of 4 (sine "
            f"and cosine of row and column). Try width={4 * heads * max(1, width // (4 * heads))}."
        )
    block = (heads, mlp_ratio, dropout, qk_norm)
    options = (patch, width, depth, features, num_classes, dtype, remat, block)
    return _common.model(lambda deterministic: _DiT(deterministic, *options))
