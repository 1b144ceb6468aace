"""A coupling on fixed blocks of rows, so that it does not depend on what a device holds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.types import PRNGKey, Rows


def blocks(
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    x1: Float[Array, " b *d"],
    cond: Any = None,
    *,
    coupling: Callable[..., Rows],
    block: int,
) -> Rows:
    """`coupling` of rows [0, block), of [block, 2 block), …, each with a key of its own; traced.

    Optimal transport costs more than in proportion to its rows, and gains little beyond some
    tens of them in few dimensions. ValueError: b is not a multiple of `block`.
    """
    rows = x1.shape[0]
    if block < 1 or rows % block:
        raise ValueError(f"{rows} rows do not divide into blocks of {block}; choose a divisor")
    count = rows // block
    cut = jax.tree.map(lambda a: a.reshape(count, block, *a.shape[1:]), (x0, x1, cond))
    found = jax.vmap(lambda k, a: coupling(k, *a))(jax.random.split(key, count), cut)
    starts = block * jnp.arange(count)[:, None]
    return Rows(*((jnp.asarray(r) + starts).reshape(rows) for r in found))
