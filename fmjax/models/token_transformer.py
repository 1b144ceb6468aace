"""A transformer on tokens in a line: the log-masses of each position's x1."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fmjax import types
from fmjax.models import _common, _tokens, _transformer


class _TokenTransformer(nn.Module):
    deterministic: bool
    vocabulary: int
    width: int
    depth: int
    num_classes: _common.Classes
    block: Mapping[str, Any]
    features: int
    carry: bool
    dtype: Any
    remat: bool
    policy: Any

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> Any:
        h, c = _tokens.trunk(t, x, cond, self)
        norm = _transformer.norm(self.block["rms_norm"])
        out = _common.Head(self.vocabulary, self.dtype, norm, name="output")(h, c)
        masses = jax.nn.log_softmax(out.astype(jnp.float32), axis=-1)
        return carried(masses, x) if self.carry else masses


def carried(masses: Float[Array, "b n v"], x: Int[Array, "b n"]) -> Float[Array, "b n v"]:
    """Log-masses for a source of masks: what is no mask is x1 already, with certainty."""
    v = masses.shape[-1]
    known = jnp.where(jax.nn.one_hot(x, v, dtype=bool), 0.0, _tokens.IMPOSSIBLE)
    return jnp.where((x < v)[..., None], known, masses)


def token_transformer(
    *,
    vocabulary: int,
    width: int = 128,
    depth: int = 6,
    heads: int = 4,
    mlp_ratio: int = 4,
    features: int = 256,
    num_classes: _common.Classes = None,
    dropout: float = 0.0,
    qk_norm: bool = True,
    rms_norm: bool = False,
    swiglu: bool = False,
    carry: bool = False,
    causal: bool = False,
    dtype: Any = None,
    remat: bool = False,
    policy: Callable[..., Any] | None = None,
) -> types.Model:
    """log m(x1 | x_t) `[b, n, vocabulary]` of tokens `[b, n]`; adaLN-Zero blocks, uniform at first.

    vocabulary: how many tokens the data have (a run gives its codec's); one state more, the mask,
               may be in x
    carry:     for the source of masks alone: a token that is no mask keeps all of its mass, so
               that losses and samplers leave it. With other sources any token may be noise
    causal:    position i sees positions up to i alone, for `losses.autoregressive`
    features:  of the time's embedding; the rest as in `dit`

    Positions are rotary: any length will do, at sampling another one than in training, too. Twelve
    blocks of width 768 and 12 heads are the published size. Sahoo et al. 2024 (2406.07524); Gat
    et al. 2024 (2407.15595), both after Peebles & Xie 2022 (2212.09748).
    """
    _tokens.check(vocabulary, width, heads, remat, policy)
    block = {
        "heads": heads, "mlp_ratio": mlp_ratio, "dropout": dropout, "qk_norm": qk_norm,
        "rms_norm": rms_norm, "swiglu": swiglu, "dtype": dtype, "causal": causal,
    }  # fmt: skip
    options = (
        vocabulary, width, depth, num_classes, block, features, carry, dtype, remat, policy,
    )  # fmt: skip
    return _common.model(lambda deterministic: _TokenTransformer(deterministic, *options))
