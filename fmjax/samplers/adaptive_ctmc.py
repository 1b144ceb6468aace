"""The chain of tokens in steps as long as few enough positions jump in each."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from fmjax import tokens
from fmjax.samplers import _tokens
from fmjax.types import Info, PRNGKey

BISECTIONS = 12


def adaptive_ctmc(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Int[Array, "b *n"],
    cond: PyTree = None,
    *,
    bridge: tokens.Bridge = tokens.mixture(),
    jumps: float | int = 4.0,
    most: int = 1024,
    longest: float | int = 0.1,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    high: bool = True,
    given: Any = None,
    known: Any = None,
) -> tuple[Int[Array, "b *n"], Info]:
    """As `ctmc`, each step as long as an example makes `jumps` jumps in it, on average, at most.

    jumps:   of the example that makes most of them; fewer is nearer to the chain
    most:    steps, at most; the last one goes to t = 1 from wherever it is
    longest: no step is longer: what jumps rarely now may jump often soon

    All examples of a batch share their times. The length is found by bisection, without the net.
    NFE: as many as steps were taken.
    """
    if jumps <= 0 or most < 1 or not 0 < longest <= 1:
        raise ValueError(
            f"jumps={jumps}, most={most}, longest={longest}: expected above 0, at least 1, and "
            "above 0 up to 1"
        )
    of = _tokens.masses(net, cond, temperature=temperature, top_p=top_p)
    held = _tokens.given(given, known, x0)

    def moved(t: Any, s: Any, x: Any, m: Any) -> Array:
        """How many positions of an example jump from t to s, of the one where most do."""
        stays = tokens.at(bridge.advance(t, s, x, m), x)
        return jnp.where(held.known, 0.0, 1 - stays).reshape(len(x), -1).sum(axis=1).max()

    def until(t: Any, x: Any, m: Any) -> Array:
        """The last time up to which at most `jumps` positions move."""

        def halved(_: Any, ends: Any) -> Any:
            low, high = ends
            middle = (low + high) / 2
            fits = moved(t, middle, x, m) <= jumps
            return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

        low, high = t, jnp.minimum(t + longest, 1.0)
        # the middle of the last interval: above t, however short
        return (sum(jax.lax.fori_loop(0, BISECTIONS, halved, (low, high))) / 2).astype(low.dtype)

    def advance(state: Any) -> Any:
        t, x, key, n = state
        key, key_step, key_last = jax.random.split(key, 3)
        log_m = of(t, x)
        m = jnp.exp(log_m)
        s = until(t, x, m)
        last = (s >= 1 - 2.0**-BISECTIONS) | (n + 1 >= most)
        s = jnp.where(last, t, s)  # not used then, and a time that is valid
        on = tokens.draw(key_step, bridge.advance(t, s, x, m), high=high)
        x = jnp.where(last, tokens.categorical(key_last, log_m, high=high), on)
        return jnp.where(last, 1.0, s), held.kept(x.astype(x0.dtype)), key, n + 1

    start = jnp.float32(0), held.kept(x0), key, jnp.int32(0)
    _, x, _, n = jax.lax.while_loop(lambda state: state[0] < 1, advance, start)
    return x, Info(n)
