"""What objectives share: the error of one example, and dropping conditions."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.types import PRNGKey

# of a condition, or of each part of one and of "all" together
Drop = float | int | Mapping[str, float | int]


def squared_error(
    prediction: Float[Array, "..."], target: Float[Array, " b *d"]
) -> Float[Array, " b"]:
    """Mean over an example's entries of (prediction − target)², in float32; never broadcasts."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"the net returned shape {prediction.shape}, its target has {target.shape}; "
            "a velocity is shaped like x"
        )
    error = jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    return error.reshape(error.shape[0], -1).mean(axis=1)


def cosine(a: Float[Array, "*n k"], b: Float[Array, "*n k"]) -> Float[Array, "*n"]:
    """a · b / (|a| |b|) over the last axis, in float32; 0, with a gradient, where one is zero."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    squares = jnp.sum(a * a, axis=-1) * jnp.sum(b * b, axis=-1)
    return jnp.sum(a * b, axis=-1) * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def drop_condition(key: PRNGKey, cond: Any, null: Any, drop: Drop) -> Any:
    """Each example's condition replaced by `null` with probability `drop`, one coin an example.

    Of a condition that is a dict, a number drops all parts together; a dict of rates drops each
    part by a coin of its own, and "all" in it everything together, besides. To compose conditions
    the net has to know each part alone: dict(all=0.1, group=0.2, style=0.2).
    Ho & Salimans 2022 (2207.12598): what classifier-free guidance needs at training time.
    """
    if cond is None or (not isinstance(drop, Mapping) and drop == 0):
        return cond
    if null is None:
        raise ValueError(f"drop={drop}, but the data declare no absent condition (`Data.null`)")
    n = jax.tree.leaves(cond)[0].shape[0]

    def replace(dropped: Array, cond: Any, null: Any) -> Any:
        def one(c: Array, absent: Any) -> Array:
            mask = dropped.reshape((n,) + (1,) * (c.ndim - 1))
            return jnp.where(mask, jnp.broadcast_to(jnp.asarray(absent, c.dtype), c.shape), c)

        return jax.tree.map(one, cond, null)

    if not isinstance(drop, Mapping):
        return replace(jax.random.bernoulli(key, drop, (n,)), cond, null)
    names = sorted(cond) if isinstance(cond, Mapping) else []
    unknown = sorted(set(drop) - {*names, "all"})
    if unknown or not names or "all" in names:
        raise ValueError(
            f"drop={dict(drop)}: expected a rate for parts of the condition, which has "
            f"{names or 'none'}, or for 'all' of them together (no part may be called so)"
        )
    key_all, *keys = jax.random.split(key, 1 + len(names))
    together = jax.random.bernoulli(key_all, drop.get("all", 0.0), (n,))
    return {
        name: replace(
            together | jax.random.bernoulli(key, drop.get(name, 0.0), (n,)), cond[name], null[name]
        )
        for name, key in zip(names, keys, strict=True)
    }
