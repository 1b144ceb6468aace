"""The chain of tokens in steps as long as few enough positions jump in each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from fmjax import tokens
from fmjax.samplers import _tokens
from fmjax.types import Info, PRNGKey


def adaptive_ctmc(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Int[Array, "b *n"],
    cond: PyTree = None,
    *,
    bridge: tokens.Bridge = tokens.mixture(),
    jumps: float | int = 4.0,
    most: int = 1024,
    least: float | int = 1e-3,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    high: bool = True,
    given: Any = None,
    known: Any = None,
) -> tuple[Int[Array, "b *n"], Info]:
    """As `ctmc`, with h = jumps / Σ u_t(y, x), the rate of the example that jumps most often.

    jumps: that an example makes in a step, on average; fewer is nearer to the chain
    most:  steps, at most; the last one goes to t = 1 from wherever it is
    least: the shortest step

    All examples of a batch share their times. NFE: as many as steps were taken.
    """
    if jumps <= 0 or most < 1 or not 0 < least <= 1:
        raise ValueError(
            f"jumps={jumps}, most={most}, least={least}: expected above 0, at least 1, and above "
            "0 up to 1"
        )
    of = _tokens.masses(net, cond, temperature=temperature, top_p=top_p)
    held = _tokens.given(given, known, x0)

    def longest(t: Any, x: Any, log_m: Any) -> Array:
        u = bridge.rates(t, x, jnp.exp(log_m)).sum(axis=-1)
        rate = jnp.where(held.known, 0.0, u).reshape(len(x), -1).sum(axis=1).max()
        return jnp.maximum(jumps / jnp.maximum(rate, 1e-6), least)

    def advance(state: Any) -> Any:
        t, x, key, n = state
        key, key_step, key_last = jax.random.split(key, 3)
        log_m = of(t, x)
        s = t + longest(t, x, log_m)
        last = (s >= 1) | (n + 1 >= most)
        s = jnp.where(last, t, s)  # not used then, and a time that is valid
        on = _tokens.draw(key_step, bridge.advance(t, s, x, jnp.exp(log_m)), high=high)
        x = jnp.where(last, _tokens.final(key_last, log_m, high=high), on)
        return jnp.where(last, 1.0, s), held.kept(x.astype(x0.dtype)), key, n + 1

    start = jnp.float32(0), held.kept(x0), key, jnp.int32(0)
    _, x, _, n = jax.lax.while_loop(lambda state: state[0] < 1, advance, start)
    return x, Info(n)
