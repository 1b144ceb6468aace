"""What the transformers on tokens share: the embedded row, its blocks, checks of their sizes."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from fmjax.models import _common, _transformer

IMPOSSIBLE = -1e9  # the logarithm of no mass: finite, so that guidance may subtract two of them


def trunk(t: Any, x: Any, cond: Any, of: Any, seen: Any = None) -> tuple[Any, Any]:
    """`(h, c)`: each token's features, and the embedding `[b, 1, width]` of time and condition.

    of:   the module that calls it, in a compact method, and has the sizes as its fields
    seen: `[b, n]`, which places are attended to; None: all
    """
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError(
            f"x has shape {x.shape} and type {x.dtype}; expected tokens, whole numbers [b, n]. "
            "Give the run a codec of tokens, such as fmjax.text:characters"
        )
    options = {"num_classes": of.num_classes, "dtype": of.dtype}
    c = _common.embed(t, cond, of.width, of.features, **options)[:, None, :]
    # one row more than the data have tokens: that of the mask
    table = nn.Embed(
        of.vocabulary + 1,
        of.width,
        dtype=of.dtype,
        embedding_init=nn.initializers.normal(0.02),
        name="tokens",
    )
    h = table(x)
    by = jnp.asarray(_transformer.line_angles(x.shape[1], of.width // of.block["heads"]))
    block = _transformer.Block
    if of.remat:
        block = nn.remat(block, policy=of.policy)
    for i in range(of.depth):
        h = block(of.deterministic, **of.block, name=f"block_{i}")(h, c, by, seen)
    return h, c


def check(vocabulary: int, width: int, heads: int, remat: bool, policy: Any) -> None:
    """ValueError for sizes that do not fit one another."""
    if vocabulary < 1:
        raise ValueError(
            f"vocabulary={vocabulary}: expected at least 1. Give the run a codec of tokens, such "
            "as fmjax.text:characters"
        )
    if width % heads or width // heads % 2:
        raise ValueError(
            f"width {width} with {heads} heads: expected an even number for each head, as rotary "
            f"positions turn pairs. Try width={2 * heads * max(1, width // (2 * heads))}."
        )
    _common.check_policy(remat, policy)
