"""A residual perceptron whose blocks are modulated by time and condition."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fmjax import types
from fmjax.models import _common


class _Block(nn.Module):
    """h + gate · W f(W norm(h)), the norm shifted and scaled by `c`; the identity at the start."""

    deterministic: bool
    expand: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, h: Any, c: Any) -> Any:
        width = h.shape[-1]
        zeros = nn.initializers.zeros_init()
        modulation = nn.Dense(3 * width, dtype=self.dtype, kernel_init=zeros, name="modulation")
        shift, scale, gate = jnp.split(modulation(jax.nn.silu(c)), 3, axis=-1)
        y = nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype)(h)
        y = _common.modulate(y, shift, scale)
        y = jax.nn.silu(nn.Dense(self.expand * width, dtype=self.dtype, name="mlp_in")(y))
        y = nn.Dropout(self.dropout, deterministic=self.deterministic)(y)
        return h + gate * nn.Dense(width, dtype=self.dtype, name="mlp_out")(y)


class _ResMLP(nn.Module):
    deterministic: bool
    width: int
    depth: int
    expand: int
    features: int
    num_classes: _common.Classes
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> Any:
        flat = x.reshape(x.shape[0], -1)
        c = _common.embed(t, cond, self.width, self.features, self.num_classes, self.dtype)
        h = nn.Dense(self.width, dtype=self.dtype, name="input")(flat)
        for i in range(self.depth):
            block = _Block(
                self.deterministic, self.expand, self.dropout, self.dtype, name=f"block_{i}"
            )
            h = block(h, c)
        out = _common.Head(flat.shape[-1], self.dtype, name="output")(h, c)
        # the part of v that is linear in x (all of it, for Gaussian data) need not pass the norms
        zeros = nn.initializers.zeros_init()
        skip = nn.Dense(flat.shape[-1], dtype=self.dtype, kernel_init=zeros, name="skip")
        return (out + skip(jax.nn.silu(c)) * flat).reshape(x.shape)


def resmlp(
    *,
    width: int = 512,
    depth: int = 4,
    expand: int = 2,
    features: int = 64,
    num_classes: _common.Classes = None,
    dropout: float = 0.0,
    dtype: Any = None,
) -> types.Model:
    """h ← h + gate(c) · MLP(norm(h) (1 + scale(c)) + shift(c)), c = time + condition.

    v = head(h, c) + skip(c) ⊙ x. Head, skip and gates start at zero, so v = 0 at first. x of any
    shape is flattened: for data of tens to hundreds of dimensions without a long-range layout,
    such as 8x8 images or tables. For larger images use `dit`. `dtype` is that of the computation;
    the parameters stay float32. The modulation is adaLN-Zero of Peebles & Xie (2022, arXiv
    2212.09748).
    """
    options = (width, depth, expand, features, num_classes, dropout, dtype)
    return _common.model(lambda deterministic: _ResMLP(deterministic, *options))
