"""Sampling of a run that trains an autoencoder: what it makes of real examples."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.types import Info, PRNGKey


def reconstruct(
    net: Any,
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: Any = None,
    *,
    codec: Any,
) -> tuple[Float[Array, " b *d"], Info]:
    """x1 = D(mean of q(z|x)) for the examples x given as `cond`, in data space; NFE 2.

    So the samples of a run are reconstructions, row by row those of the rows that they are judged
    by, and every metric of samples is one of reconstructions. The data have to give each example
    as its own condition: `fmjax.data.originals`. `codec`: the run's. Nothing is drawn.
    """
    del key
    if cond is None or not hasattr(net, "encoder"):
        what = "no condition" if cond is None else "no encoder"
        raise ValueError(
            f"{what}: reconstruct needs a model with encoder and decoder, and data that give "
            'every example as its condition: dict(name="fmjax.data.originals:originals", data=…)'
        )
    x1 = net(1.0, codec.encode(cond))
    if x1.shape != x0.shape:
        raise ValueError(f"the decoder returned shape {x1.shape}, expected {x0.shape}")
    return x1, Info(jnp.asarray(2))
