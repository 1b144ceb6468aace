"""A coupling on fixed blocks of rows, so that it does not depend on what a device holds."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fmjax.couplings import _common
from fmjax.types import PRNGKey, Rows


def blocks(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any = None,
    *,
    coupling: Callable[..., Rows],
    block: int,
) -> Rows:
    """`coupling` of rows [0, block), of [block, 2 block), …, each with a key of its own.

    Optimal transport costs more than in proportion to its rows, and gains little beyond some
    tens of them in few dimensions. Under `coupled`, whose own blocks cost 1 ms each besides the
    plan, small blocks within a large one are cheaper than small ones alone.
    ValueError: b is not a multiple of `block`.
    """
    rows = x1.shape[0]
    if block < 1 or rows % block:
        raise ValueError(f"{rows} rows do not divide into blocks of {block}; choose a divisor")
    count = rows // block
    keys = jax.random.split(key, count)
    cut = jax.tree.map(lambda a: a.reshape(count, block, *a.shape[1:]), (x0, x1, cond))
    if isinstance(x1, np.ndarray):
        parts = [jax.tree.map(lambda a, i=i: a[i], cut) for i in range(count)]
        each = [coupling(one, *part) for one, part in zip(keys, parts, strict=True)]
        found = [np.stack(side) for side in zip(*each, strict=True)]
    else:
        found = jax.vmap(lambda k, a: coupling(k, *a))(keys, cut)
    starts = block * _common.namespace(x1).arange(count)[:, None]
    return Rows(*((side + starts).reshape(rows) for side in found))
