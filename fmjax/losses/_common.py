"""What objectives share: the error of one example, and dropping conditions."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.types import PRNGKey


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


def drop_condition(key: PRNGKey, cond: Any, null: Any, rate: float) -> Any:
    """Each example's condition replaced by `null` with probability `rate`, one coin an example.

    Ho & Salimans 2022 (2207.12598): what classifier-free guidance needs at training time.
    """
    if cond is None or rate == 0:
        return cond
    if null is None:
        raise ValueError(f"drop={rate}, but the data declare no absent condition (`Data.null`)")
    n = jax.tree.leaves(cond)[0].shape[0]
    dropped = jax.random.bernoulli(key, rate, (n,))

    def replace(c: Array, absent: Any) -> Array:
        mask = dropped.reshape((n,) + (1,) * (c.ndim - 1))
        return jnp.where(mask, jnp.broadcast_to(jnp.asarray(absent, c.dtype), c.shape), c)

    return jax.tree.map(replace, cond, null)
