"""Laws of the source: `(key, like) -> x0`, shaped like `like`. Shared by loss and sampler."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from fmjax.types import Batch, PRNGKey, Rows


def normal(
    key: PRNGKey, like: Num[Array, " b *d"], *, std: float | int = 1.0
) -> Float[Array, " b *d"]:
    """x0 ~ N(0, std² I). ValueError for whole numbers."""
    if not jnp.issubdtype(like.dtype, jnp.inexact):
        raise ValueError(
            f"examples of {like.dtype} are tokens, which have no normal noise: give "
            'config.source = dict(bind="fmjax.sources:mask") or "fmjax.sources:uniform_tokens"'
        )
    # drawn flat: the same numbers, and XLA compiles a vector's draw 4 times faster on the CPU
    x0 = jax.random.normal(key, (like.size,), like.dtype).reshape(like.shape)
    return x0 if std == 1 else std * x0


def normal_log_density(x0: Float[Array, " b *d"], *, std: float | int = 1.0) -> Float[Array, " b"]:
    """Σ log N(x0; 0, std²) over an example's numbers, in nats."""
    x = x0.astype(jnp.promote_types(x0.dtype, jnp.float32)).reshape(x0.shape[0], -1)
    constant = x.shape[1] * (math.log(2 * math.pi) / 2 + math.log(std))
    return -jnp.sum((x / std) ** 2, axis=1) / 2 - constant


normal.log_density = normal_log_density


def mask(key: PRNGKey, like: Int[Array, " b *n"], *, vocabulary: int) -> Int[Array, " b *n"]:
    """x0 = the mask, the state `vocabulary`, which no token of the data has."""
    del key
    return jnp.full_like(like, vocabulary)


def uniform_tokens(
    key: PRNGKey, like: Int[Array, " b *n"], *, vocabulary: int
) -> Int[Array, " b *n"]:
    """x0 ~ U{0, …, vocabulary − 1}, each token on its own."""
    return jax.random.randint(key, like.shape, 0, vocabulary, like.dtype)


def empty(key: PRNGKey, like: Int[Array, " b *n"], *, end: int) -> Int[Array, " b *n"]:
    """x0 = nothing but the token that ends a text: for edit flows that only insert."""
    del key
    return jnp.full_like(like, end)


def short_text(
    key: PRNGKey, like: Int[Array, "b n"], *, vocabulary: int, end: int, longest: int
) -> Int[Array, "b n"]:
    """x0 = a text of 0 … `longest` tokens, that number and each token uniform, then `end`.

    ValueError: longer than a row, or no token but the end.
    """
    if not 0 <= longest <= like.shape[1] or vocabulary < 2:
        raise ValueError(
            f"longest={longest}, vocabulary={vocabulary}: expected 0 to {like.shape[1]}, the width "
            "of a row, and a token beside the end"
        )
    key_length, key_tokens = jax.random.split(key)
    length = jax.random.randint(key_length, (like.shape[0], 1), 0, longest + 1)
    x = jax.random.randint(key_tokens, like.shape, 0, vocabulary - 1, like.dtype)
    x = x + (x >= end).astype(like.dtype)
    return jnp.where(jnp.arange(like.shape[1])[None] < length, x, end)


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


def log_density(source: Callable[..., Any]) -> Callable[[Array], Array]:
    """`x0 -> log p0(x0) [b]` of a source: its attribute `log_density`, with its own options.

    A source states its law by `my_source.log_density = my_log_density`, a function of x0 that
    takes the keyword options of `my_source`. ValueError: it states none.
    """
    bare = source.func if isinstance(source, functools.partial) else source
    law = getattr(bare, "log_density", None)
    if law is None:
        raise ValueError(
            f"the source {getattr(bare, '__qualname__', bare)} has no density that is known: pass "
            "log_p0, a function x0 -> log p0(x0) of each example in nats, or give the source an "
            "attribute log_density(x0, **its_options)"
        )
    return functools.partial(law, **getattr(source, "keywords", {}))


def pair(
    key_x0: PRNGKey,
    key_pair: PRNGKey,
    batch: Batch,
    *,
    source: Callable[..., Any],
    coupling: Callable[..., Rows] | None,
) -> Batch:
    """The batch with noise, its own or else the source's, that `coupling` has paired with x1."""
    if batch.x0 is None:
        batch = batch._replace(x0=source(key_x0, batch.x1))
    if coupling is None:
        return batch
    return permuted(batch, coupling(key_pair, batch.x0, batch.x1, batch.cond))


def permuted(batch: Batch, rows: Rows) -> Batch:
    """Row i gets the noise of row `rows.x0[i]`, and everything else of row `rows.x1[i]`."""
    others = jax.tree.map(lambda a: a[rows.x1], batch._replace(x0=None))
    return others._replace(x0=batch.x0[rows.x0])
