"""Couplings for conditional models: transport that leaves p(x0 | condition) the source.

A coupling that ignores the condition sends the noise near a class's examples to that class. The
model then never sees that class start elsewhere, but its samples do. The remedy is to give every
row of noise a condition first, whatever its value (that of its own row, as rows come
independently), and to let it change hands only where the condition stays what it is.
Cheng and Schwing 2025, "The Curse of Conditions" (2503.10636).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fmjax.couplings import _common
from fmjax.types import PRNGKey, Rows

Number = Float[Array | np.ndarray, ""] | np.floating | float | int


def classes(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any,
    *,
    coupling: Callable[..., Rows],
) -> Rows:
    """`coupling` within each class: p(x0 | class) stays exactly the source.

    `cond`: integers, `[b]` or several an example, in any tree; a class is one combination, a
    null class one more. A class of one row keeps its pair, so use blocks with tens of rows a
    class. Host arrays are coupled class by class, which is cheaper than all at once; in the step,
    where the sizes of classes are not known, the classes are moved apart instead, which any
    `coupling` by distance respects (entropic ones up to some exp(−7 max|x0 − x1|²/epsilon)).
    ValueError: no condition, or one that is not of integers.
    """
    same = _same(cond)
    first = same.argmax(axis=1)  # a class's first row stands for it
    if not isinstance(x1, np.ndarray):
        farthest = jnp.max(_common.squared_distances_jax(x0, x1))
        corner = 2 * jnp.sqrt(farthest) * jax.nn.one_hot(first, len(x1), dtype=x1.dtype)
        return coupling(key, _beside(x0, corner), _beside(x1, corner), None)
    found = Rows(np.arange(len(x1)), np.arange(len(x1)))
    members = [np.flatnonzero(first == c) for c in np.unique(first)]
    for one, rows in zip(jax.random.split(key, len(members)), members, strict=True):
        if len(rows) == 1:
            continue
        pairs = coupling(one, x0[rows], x1[rows], None)
        found.x0[rows], found.x1[rows] = rows[pairs.x0], rows[pairs.x1]
    return found


def reachable(costs: _common.Costs, gaps: _common.Costs, *, share: float = 0.01) -> Number:
    """The weight at which a `share` of all pairs (i, j) costs less than staying at (i, i).

    That is cost_ij + w·gap_ij < cost_ii, so w is a quantile of (cost_ii − cost_ij) / gap_ij, and
    does not depend on the units of examples or conditions. A share of ½ is plain transport, one
    of 0 nearly the independent coupling: the less, the less skewed and the less straightened.
    On blocks of b rows it should be some times 1/b.
    Cheng and Schwing 2025 (2503.10636) search for the same weight by bisection.
    """
    xp = _common.namespace(costs)
    gain = xp.diagonal(costs)[:, None] - costs
    # where conditions are equal, no weight forbids the pair
    ratio = xp.where(gaps > 0, gain / xp.where(gaps > 0, gaps, 1), -xp.inf)
    rank = min(int((1 - share) * ratio.size), ratio.size - 1)
    ordered = np.partition(ratio, rank, axis=None) if xp is np else jnp.sort(ratio, axis=None)
    return xp.maximum(ordered[rank], 0)


def constant(costs: _common.Costs, gaps: _common.Costs, *, value: float | int) -> Number:
    """A weight in units of |x|² / |cond|²."""
    del costs, gaps
    return value


def continuous(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any,
    *,
    coupling: Callable[..., Rows],
    weight: Callable[..., Number] = reachable,
) -> Rows:
    """`coupling` by |x0_i − x1_j|² + w |c_i − c_j|², c_i being the condition of row i.

    `cond`: floats, any tree with leading axis b; scale its parts to what differences mean.
    `weight(costs, gaps)`: w, from the two matrices of squared distances. p(x0 | cond) is the
    source only as w grows, with larger blocks that have near conditions to offer.
    `coupling` sees rows [x, √w c], so any that compares by distance will do.
    ValueError: no condition, or one that is not of floats. For classes: `classes`.
    """
    xp = _common.namespace(x1)
    leaves = _leaves("continuous", cond, np.floating, "for integer classes use classes")
    c = xp.concatenate([xp.reshape(leaf, (len(x1), -1)) for leaf in leaves], axis=1)
    distances = _common.squared_distances if xp is np else _common.squared_distances_jax
    w = weight(distances(x0, x1), distances(c, c))
    c = (c * xp.sqrt(w)).astype(x1.dtype)
    return coupling(key, _beside(x0, c), _beside(x1, c), None)


def _beside(x: Any, c: Any) -> Any:
    return _common.namespace(x).concatenate([x.reshape(len(x), -1), c], axis=1)


def _same(cond: Any) -> Bool[Array | np.ndarray, "b b"]:
    """Which rows have equal conditions."""
    hint = "for real-valued conditions use continuous"
    leaves = _leaves("classes", cond, (np.integer, np.bool_), hint)
    same = True
    for leaf in leaves:
        flat = leaf.reshape(len(leaf), -1)
        same = same & (flat[:, None] == flat[None]).all(axis=2)
    return same


def _leaves(name: str, cond: Any, kind: Any, hint: str) -> list[Any]:
    leaves = jax.tree.leaves(cond)
    if not leaves:
        raise ValueError(f"the coupling {name} needs a condition, and the data have none")
    for leaf in leaves:
        if not any(jnp.issubdtype(leaf.dtype, k) for k in np.atleast_1d(kind)):
            raise ValueError(f"the coupling {name} got a condition of {leaf.dtype}; {hint}")
    return leaves
