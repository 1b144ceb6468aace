"""Laws of the training time: `(key, n) -> t [n]` in [0, 1]. Any such function will do."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.types import PRNGKey


def uniform(key: PRNGKey, n: int, *, low: float = 0.0, high: float = 1.0) -> Float[Array, " {n}"]:
    """t ~ U[low, high). Keep `high` below 1 for paths whose velocity is infinite there."""
    return jax.random.uniform(key, (n,), minval=low, maxval=high)


def stratified(
    key: PRNGKey, n: int, *, low: float = 0.0, high: float = 1.0
) -> Float[Array, " {n}"]:
    """t_i = (u + i/n) mod 1 with one u ~ U[0, 1): uniform each, evenly spread together.

    Lowers the variance of the loss. Kingma et al. 2021 (2107.00630), appendix I.1.
    """
    u = (jax.random.uniform(key) + jnp.arange(n) / n) % 1
    return low + (high - low) * u


def logit_normal(
    key: PRNGKey, n: int, *, mean: float = 0.0, std: float = 1.0
) -> Float[Array, " {n}"]:
    """logit t ~ N(mean, std²): most of the time in the middle. Esser et al. 2024 (2403.03206)."""
    return jax.nn.sigmoid(mean + std * jax.random.normal(key, (n,)))


def cosmap(key: PRNGKey, n: int) -> Float[Array, " {n}"]:
    """t = 1 − 1/(tan(πu/2) + 1), density 2/(π(1 − 2t + 2t²)): a cosine schedule's law of t.

    Esser et al. 2024 (2403.03206), section 3.1.
    """
    u = jax.random.uniform(key, (n,))
    # sin/(sin + cos) is the same function without tan's infinity at u = 1
    s, c = jnp.sin(jnp.pi / 2 * u), jnp.cos(jnp.pi / 2 * u)
    return s / (s + c)
