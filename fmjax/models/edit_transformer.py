"""A transformer on texts of any length: the rates of every edit of them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from fmjax import edits, types
from fmjax.models import _common, _tokens, _transformer


class _EditTransformer(nn.Module):
    deterministic: bool
    vocabulary: int
    end: int
    width: int
    depth: int
    num_classes: _common.Classes
    block: Mapping[str, Any]
    features: int
    dtype: Any
    remat: bool
    policy: Any

    @nn.compact
    def __call__(self, t: Any, x: Any, cond: Any) -> edits.Edits:
        anchors = edits.anchors(x, end=self.end)
        h, c = _tokens.trunk(t, x, cond, self, seen=anchors)
        norm, v = _transformer.norm(self.block["rms_norm"]), self.vocabulary
        out = _common.Head(2 * v + 3, self.dtype, norm, name="output")(h, c).astype(jnp.float32)
        inserted, substituted, rates = jnp.split(out, [v, 2 * v], axis=-1)
        log_rates = jnp.log(jnp.maximum(jax.nn.softplus(rates), 1e-30))
        insert, delete, substitute = (log_rates[..., i] for i in range(3))
        no_end, text = jnp.arange(v)[None, None] == self.end, edits.text(x, end=self.end)
        same = jax.nn.one_hot(x, v, dtype=bool)
        return edits.Edits(
            _rates(insert, inserted, no_end, anchors),
            jnp.where(text, delete, _tokens.IMPOSSIBLE),
            _rates(substitute, substituted, no_end | same, text),
        )


def _rates(
    log_rate: Float[Array, "b n"],
    logits: Float[Array, "b n v"],
    never: Bool[Array, "_ _ v"],
    where: Bool[Array, "b n"],
) -> Float[Array, "b n v"]:
    """The rate of a place, shared among the tokens that it can become."""
    log_m = jax.nn.log_softmax(jnp.where(never, _tokens.IMPOSSIBLE, logits), axis=-1)
    possible = where[..., None] & ~never
    return jnp.where(possible, log_rate[..., None] + log_m, _tokens.IMPOSSIBLE)


def edit_transformer(
    *,
    vocabulary: int,
    end: int | None,
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
    dtype: Any = None,
    remat: bool = False,
    policy: Callable[..., Any] | None = None,
) -> types.Model:
    """`edits.Edits` of rows `[b, n]`: log(softplus(λ)) + log_softmax(tokens), alike at first.

    vocabulary, end: how many tokens the data have, and which of them ends a text and fills its
               row (a run gives its codec's). The end is neither inserted nor substituted
    The rest as in `token_transformer`, of whose blocks it is made.

    Places after the first end are not attended to: a longer row gives its text the same rates.
    ValueError: no end. Havasi et al. 2025 (2506.09018).
    """
    if end is None or vocabulary < 3:
        raise ValueError(
            f"vocabulary={vocabulary}, end={end}: expected two tokens at least and the one that "
            "ends a text. Give the run a codec of tokens with end=True, such as "
            "fmjax.text:characters"
        )
    _tokens.check(vocabulary, width, heads, remat, policy)
    block = {
        "heads": heads, "mlp_ratio": mlp_ratio, "dropout": dropout, "qk_norm": qk_norm,
        "rms_norm": rms_norm, "swiglu": swiglu, "dtype": dtype,
    }  # fmt: skip
    options = vocabulary, end, width, depth, num_classes, block, features, dtype, remat, policy
    return _common.model(lambda deterministic: _EditTransformer(deterministic, *options))
