"""Laws of the source: `(key, like) -> x0`, shaped like `like`. Shared by loss and sampler."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from fmjax.types import PRNGKey


def normal(key: PRNGKey, like: Float[Array, " b *d"]) -> Float[Array, " b *d"]:
    """x0 ~ N(0, I)."""
    # drawn flat: the same numbers, and XLA compiles a vector's draw 4 times faster on the CPU
    return jax.random.normal(key, (like.size,), like.dtype).reshape(like.shape)


def distribution(
    key: PRNGKey,
    like: Float[Array, " b *d"],
    *,
    sample: Callable[[PRNGKey, int], Float[Array, " b *d"]],
) -> Float[Array, " b *d"]:
    """x0 from any `sample(key, n)`, such as another data set's distribution."""
    x0 = sample(key, like.shape[0])
    if x0.shape != like.shape:
        raise ValueError(f"the source draws {x0.shape}, the data have {like.shape}; match them")
    return x0.astype(like.dtype)
