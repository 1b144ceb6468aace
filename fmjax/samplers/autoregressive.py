"""Tokens drawn one after another from a causal net: the baseline's sampler."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from fmjax import tokens
from fmjax.samplers import _tokens
from fmjax.types import Info, PRNGKey


def autoregressive(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Int[Array, "b n"],
    cond: PyTree = None,
    *,
    vocabulary: int,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    high: bool = True,
    given: Any = None,
    known: Any = None,
) -> tuple[Int[Array, "b n"], Info]:
    """x_i ~ p(· | x_1 … x_{i − 1}), for `losses.autoregressive`; `x0` gives the shape alone.

    NFE: n, each over all positions (nothing is kept between them), so only for short texts and
    comparisons. What is given is kept, and seen by what comes after it, not by what is before.
    """
    of = _tokens.masses(net, cond, temperature=temperature, top_p=top_p)
    held = _tokens.given(given, known, x0)

    def draw(x: Any, step: Any) -> Any:
        i, key = step
        log_m = of(1.0, tokens.shifted(x, vocabulary))
        own = tokens.categorical(key, jnp.take(log_m, i, axis=1), high=high).astype(x.dtype)
        return held.kept(x.at[:, i].set(own)), None

    n = x0.shape[1]
    start = held.kept(jnp.full_like(x0, vocabulary))
    x, _ = jax.lax.scan(draw, start, (jnp.arange(n), jax.random.split(key, n)))
    return x, Info(jnp.asarray(n))
