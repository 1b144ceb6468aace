"""What couplings share: the cost, randomness on the host, and a warning about conditions."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fmjax.types import PRNGKey

Examples = Float[Array | np.ndarray, " b *d"]
Costs = Float[Array | np.ndarray, "b b"]


class SkewedCondition(UserWarning):
    """A coupling that ignores the condition ties the noise to it."""


def squared_distances(
    x0: Float[Array | np.ndarray, "n *d"], x1: Float[Array | np.ndarray, "m *d"]
) -> Float[np.ndarray, "n m"]:
    """|x0_i − x1_j|², on the host, in float64."""
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (x0, x1))
    # a product of matrices: differences would need n·m·d numbers
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0.0)


def squared_distances_jax(
    x0: Float[Array | np.ndarray, "n *d"], x1: Float[Array | np.ndarray, "m *d"]
) -> Float[Array, "n m"]:
    """|x0_i − x1_j|², traced, in float32."""
    a, b = (jnp.asarray(x, jnp.float32).reshape(x.shape[0], -1) for x in (x0, x1))
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1)[None] - 2 * product, 0.0)


def on_host(name: str, *arrays: Any) -> None:
    """TypeError for what is being traced: a plan of the host has no place in the step."""
    if any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(arrays)):
        raise TypeError(
            f"the coupling {name} is computed on the host and cannot be compiled into the step: "
            "name it in the data, dict(name='fmjax.data.coupled:coupled', coupling=…, data=…), "
            "or use a coupling that runs on the device (sinkhorn, unbalanced, stable)"
        )


def generator(key: PRNGKey) -> np.random.Generator:
    """NumPy's random numbers of a key, for couplings of the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def namespace(x: Any) -> Any:
    """NumPy for arrays of the host, else jax.numpy: a coupling answers in what it was asked."""
    return np if isinstance(x, np.ndarray) else jnp


def systematic(
    u: Any, weights: Float[Array | np.ndarray, " n"], b: int
) -> Int[Array | np.ndarray, " b"]:
    """`b` draws from 0..n−1 by `weights`, each taken ⌊b·w⌋ or ⌈b·w⌉ times, w being its share.

    Each draw has the law of the weights if `u` is uniform on [0, 1); they are not independent.
    """
    xp = namespace(weights)
    edges = xp.cumsum(weights)
    places = (xp.arange(b) + u) * (edges[-1] / b)
    return xp.minimum(xp.searchsorted(edges, places, side="right"), len(weights) - 1)


def warn_if_conditional(name: str, cond: Any) -> None:
    """Warn where a coupling that does not look at the condition gets one."""
    if cond is not None:
        warnings.warn(
            f"the coupling {name} ignores the condition: noise near a class's examples goes to "
            "that class, so p(x0 | condition) is no longer the source that samples start from. "
            "Wrap it: dict(bind='fmjax.couplings.conditional:classes', coupling=…) or, for "
            "continuous conditions, fmjax.couplings.conditional:continuous",
            SkewedCondition,
            stacklevel=3,
        )
