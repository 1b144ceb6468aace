"""What objectives of tokens share: a noised batch, the net's masses, means over positions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fmjax import sources
from fmjax.losses import _common
from fmjax.types import Batch, Nets, PRNGKey, Rows

Fixed = Callable[[PRNGKey, Int[Array, "b *n"]], Bool[Array, "b *n"]]


class Noised(NamedTuple):
    """A batch at times t: `known` are the positions that were given, and are x1's.

    `cond`: what the net was told, after dropping.
    """

    t: Float[Array, " b"]
    x: Int[Array, "b *n"]
    x1: Int[Array, "b *n"]
    log_m: Float[Array, "b *n v"]
    known: Bool[Array, "b *n"] | None
    cond: Any


def noised(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    bridge: Callable[..., Any],
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]],
    source: Callable[..., Any],
    coupling: Callable[..., Rows] | None,
    fixed: Fixed | None,
    null: Any,
    drop: _common.Drop,
) -> Noised:
    """Draw everything and ask the net once. ValueError: masses of another shape than x1's."""
    key_x0, key_t, key_bridge, key_drop, key_net, key_pair, key_fixed = jax.random.split(key, 7)
    batch = sources.pair(key_x0, key_pair, batch, source=source, coupling=coupling)
    t = sample_t(key_t, batch.x1.shape[0])
    x = bridge(key_bridge, t, batch.x0, batch.x1).xt
    known = None if fixed is None else fixed(key_fixed, batch.x1)
    x = x if known is None else jnp.where(known, batch.x1, x)
    cond = _common.drop_condition(key_drop, batch.cond, null, drop)
    log_m = nets.online(t, x, cond, key=key_net)
    if log_m.shape[:-1] != x.shape:
        raise ValueError(
            f"the net returned shape {log_m.shape} for tokens of shape {x.shape}: expected one "
            "log-mass for each token of the vocabulary, on a last axis of their own"
        )
    # log-masses stay what they are, and a net of plain logits learns, too
    log_m = jax.nn.log_softmax(log_m.astype(jnp.float32), axis=-1)
    return Noised(t, x, batch.x1, log_m, known, cond)


def mean(each: Float[Array, "b *n"], known: Bool[Array, "b *n"] | None) -> Float[Array, " b"]:
    """The mean over an example's positions, but for those that were given; 0 where all were."""
    rows = each.reshape(each.shape[0], -1)
    if known is None:
        return rows.mean(axis=1)
    counts = ~known.reshape(rows.shape)
    return jnp.where(counts, rows, 0.0).sum(axis=1) / jnp.maximum(counts.sum(axis=1), 1)
