"""A transformer's parts: positions fixed and rotary, attention, gated blocks, a projection."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from fmjax.models import _common

XAVIER = nn.initializers.xavier_uniform()


def positions(rows: int, columns: int, width: int, *, column_first: bool = False) -> np.ndarray:
    """`[rows · columns, width]`: sines and cosines of the row, then of the column, a quarter each.

    `column_first`: of the column, then of the row, as DiT and SiT have them.
    Frequencies fall geometrically from 1 to 1/10000, as in Vaswani et al. 2017 (arXiv 1706.03762).
    """
    frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    angles = _grid(rows, columns)[:, :, None] * frequencies
    codes = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    if column_first:
        codes = codes[:, ::-1]
    return codes.reshape(-1, width).astype(np.float32)


def angles(rows: int, columns: int, width: int) -> np.ndarray:
    """`[rows · columns, width / 2]`: by what rotary positions turn each pair of a head's numbers.

    The first half of the pairs turns with the row, the other with the column; their frequencies
    fall geometrically from 1 to 1/10000. Su et al. 2021 (arXiv 2104.09864), in two dimensions.
    """
    frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    turned = _grid(rows, columns)[:, :, None] * frequencies
    return turned.reshape(-1, width // 2).astype(np.float32)


def line_angles(n: int, width: int) -> np.ndarray:
    """`[n, width / 2]`: the same of tokens in a line, all pairs turning with their place."""
    frequencies = 10_000.0 ** -(np.arange(width // 2) / (width // 2))
    return (np.arange(n)[:, None] * frequencies).astype(np.float32)


def _grid(rows: int, columns: int) -> np.ndarray:
    """`[rows · columns, 2]`: row and column of each place."""
    grid = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 2)


def rotate(x: Float[Array, "b n h d"], by: Float[Array, "n k"]) -> Float[Array, "b n h d"]:
    """Each pair (x₂ₖ, x₂ₖ₊₁) turned by the angle `by[n, k]`, so that q · k tells n − m alone."""
    by = by[None, :, None, :]
    cos, sin = jnp.cos(by).astype(x.dtype), jnp.sin(by).astype(x.dtype)
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


class Attention(nn.Module):
    """Self-attention of tokens `[b, n, width]`, `by` the angles of rotary positions `[n, k]`.

    `seen` `[b, n]`: which tokens are attended to; None: all.
    """

    heads: int
    qk_norm: bool = False
    dtype: Any = None
    causal: bool = False

    @nn.compact
    def __call__(self, x: Any, by: Any = None, seen: Any = None) -> Any:
        """Queries, keys and values; normalised, turned, attended; mixed."""
        b, n, width = x.shape
        options = {"dtype": self.dtype, "kernel_init": XAVIER}
        qkv = _common.dense(x, 3 * width, name="qkv", **options)
        # split, whose transpose is one concatenation, not three sums
        shape = (b, n, self.heads, width // self.heads)
        q, k, v = (a.reshape(shape) for a in jnp.split(qkv, 3, axis=-1))
        if self.qk_norm:
            q = nn.RMSNorm(dtype=self.dtype, name="q_norm")(q)
            k = nn.RMSNorm(dtype=self.dtype, name="k_norm")(k)
        if by is not None:
            q, k = rotate(q, by), rotate(k, by)
        out = _common.attend(q, k, v, causal=self.causal, seen=seen).reshape(b, n, width)
        return _common.dense(out, width, name="out", **options)


def norm(rms: bool) -> Any:
    """The class of norms before a modulation: RMSNorm scales, LayerNorm has no parameters."""
    return nn.RMSNorm if rms else functools.partial(nn.LayerNorm, use_scale=False, use_bias=False)


class Block(nn.Module):
    """x + gate · attention(norm(x)), then x + gate · MLP(norm(x)); the identity at the start."""

    deterministic: bool
    heads: int
    mlp_ratio: int = 4
    dropout: float = 0.0
    qk_norm: bool = False
    rms_norm: bool = False
    swiglu: bool = False
    dtype: Any = None
    causal: bool = False

    @nn.compact
    def __call__(self, x: Any, c: Any, by: Any = None, seen: Any = None) -> Any:
        """Tokens `[b, n, width]`, the embedding `[b, 1, width]` of time and condition."""
        width, zeros = x.shape[-1], nn.initializers.zeros_init()
        modulation = self.dense(jax.nn.silu(c), 6 * width, "modulation", zeros)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)

        y = _common.modulate(self.norm("norm_1")(x), shift1, scale1)
        y = self.attention()(y, by, seen)
        x = x + gate1 * self.drop(y)

        y = _common.modulate(self.norm("norm_2")(x), shift2, scale2)
        if self.swiglu:
            hidden = 2 * self.mlp_ratio * width // 3
            gate, y = jnp.split(self.dense(y, 2 * hidden, "mlp_in"), 2, axis=-1)
            y = jax.nn.silu(gate) * y
        else:
            y = jax.nn.gelu(self.dense(y, self.mlp_ratio * width, "mlp_in"))
        return x + gate2 * self.dense(self.drop(y), width, "mlp_out")

    def attention(self) -> Attention:
        options = {"dtype": self.dtype, "causal": self.causal, "name": "attention"}
        return Attention(self.heads, self.qk_norm, **options)

    def norm(self, name: str) -> Any:
        return norm(self.rms_norm)(dtype=self.dtype, name=name)

    def drop(self, x: Any) -> Any:
        return nn.Dropout(self.dropout, deterministic=self.deterministic)(x)

    def dense(self, x: Any, features: int, name: str, init: Any = XAVIER) -> Any:
        return _common.dense(x, features, dtype=self.dtype, kernel_init=init, name=name)


class Projection(nn.Module):
    """W₃ silu(W₂ silu(W₁ h)): tokens into the space of another network's features."""

    features: int
    hidden: int
    dtype: Any = None

    @nn.compact
    def __call__(self, h: Float[Array, "b n d"]) -> Array:
        """Three layers, after Yu et al. 2024 (arXiv 2410.06940)."""
        options = {"dtype": self.dtype, "kernel_init": XAVIER}
        h = jax.nn.silu(_common.dense(h, self.hidden, name="in", **options))
        h = jax.nn.silu(_common.dense(h, self.hidden, name="middle", **options))
        return _common.dense(h, self.features, name="out", **options)
