"""Stable matching inside the step: the greedy cousin of optimal transport."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fmjax.couplings import _common
from fmjax.types import PRNGKey, Rows


def stable(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any = None,
    *,
    cost: Callable[..., _common.Costs] = _common.squared_distances_jax,
) -> Rows:
    """The permutation in which no x0_i and x1_j are both nearer to each other than to theirs.

    Gale and Shapley's matching where both sides rank by distance; the same as taking the nearest
    pair, then the nearest of the rest, … `key` is not used. Most pairs are short and the last
    ones long: it moves 1.5 times as much as `exact` from 8 Gaussians to moons (256 rows).
    Takes passes over the b² distances, 55 there (9 ms on one core) and 19 in 64 dimensions
    (4 ms), up to b at worst. In the step only: on the host `exact` is better, and this
    compiles anew at each call.
    Warns if there is a condition: see `conditional`. Pooladian et al. 2023 (2304.14772).
    """
    _common.warn_if_conditional("stable", cond)
    distance = cost(jnp.asarray(x1), jnp.asarray(x0))
    b = distance.shape[0]
    each = jnp.arange(b)
    State = tuple[Int[Array, ""], Int[Array, " b"], Float[Array, "b b"]]

    # All pairs that are each other's nearest belong to the greedy matching, so a pass takes
    # them at once; of equal ones the first. (Minima vectorise where argmin does not.)
    def take(state: State) -> State:
        passes, match, left = state
        nearest = left == jnp.min(left, axis=1, keepdims=True)
        mutual = nearest & (left == jnp.min(left, axis=0, keepdims=True)) & (left < jnp.inf)
        wanted = jnp.min(jnp.where(mutual, each[None], b), axis=1)
        winner = jnp.full(b + 1, b).at[wanted].min(each)
        won = (wanted < b) & (winner[wanted] == each)
        gone = jnp.zeros(b + 1, bool).at[jnp.where(won, wanted, b)].set(True)[:b]
        left = jnp.where(won[:, None] | gone[None], jnp.inf, left)
        return passes + 1, jnp.where(won, wanted, match), left

    def unfinished(state: State) -> Bool[Array, ""]:
        passes, match, _ = state
        return (passes < b) & jnp.any(match == b)  # what is not finite is never matched

    start = jnp.zeros((), jnp.int32), jnp.full(b, b), distance
    _, match, _ = jax.lax.while_loop(unfinished, take, start)
    return Rows(jnp.minimum(match, b - 1), each)
