"""What samplers of tokens share: the net's masses, drawing states, keeping what is given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from fmjax import tokens


class Given(NamedTuple):
    """Tokens that stay as they are, where `known`; all of `x` is of the shape of a sample."""

    x: tokens.Ids
    known: Bool[Array, "b *n"]

    def kept(self, x: tokens.Ids) -> tokens.Ids:
        """`x` with what is given in its place."""
        return jnp.where(self.known, self.x, x)


def given(x: Any, known: Any, like: tokens.Ids) -> Given:
    """Of arrays for one example or one for each; None: nothing is known. ValueError: shapes."""
    if (x is None) != (known is None):
        raise ValueError("given and known belong together: the tokens, and where they are known")
    if x is None:
        return Given(like, jnp.zeros(like.shape, bool))
    x, known = jnp.asarray(x), jnp.asarray(known)
    for name, a in (("given", x), ("known", known)):
        if a.shape not in (like.shape, like.shape[1:]):
            raise ValueError(
                f"{name} has shape {a.shape}: expected that of one example, {like.shape[1:]}, or "
                f"one for each of {like.shape[0]}"
            )
    shaped = (jnp.broadcast_to(a, like.shape) for a in (x.astype(like.dtype), known.astype(bool)))
    return Given(*shaped)


def masses(
    net: Callable[..., Any],
    cond: PyTree,
    *,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
) -> Callable[[Any, tokens.Ids], Float[Array, "b *n v"]]:
    """`(t, x) -> log m`, log-masses as the net has them but for these (`sharper`)."""
    changed = sharper(temperature=temperature, top_p=top_p)

    def of(t: Any, x: tokens.Ids) -> Float[Array, "b *n v"]:
        # guided masses may be large: so many of e^60 are still a float32
        log_m = jnp.minimum(net(t, x, cond).astype(jnp.float32), 60.0)
        if log_m.shape[:-1] != x.shape:
            raise ValueError(
                f"the net returned shape {log_m.shape} for tokens {x.shape}: expected log-masses "
                "of the vocabulary on a last axis of their own"
            )
        return changed(log_m)

    return of


def sharper(
    *, temperature: float | int = 1.0, top_p: float | int = 1.0
) -> Callable[[Float[Array, "b *n v"]], Float[Array, "b *n v"]]:
    """`log m -> log m` with the whole mass kept; where both are 1, as it is.

    `temperature`: m^(1/T), normalised; `top_p`: the fewest tokens that have this share of the mass
    between them, those as likely as the last of them, and no others (Holtzman et al. 2019,
    1904.09751). ValueError: out of range.
    """
    if temperature <= 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"temperature={temperature}, top_p={top_p}: expected above 0, and above 0 up to 1"
        )

    def changed(log_m: Float[Array, "b *n v"]) -> Float[Array, "b *n v"]:
        if temperature == 1 and top_p == 1:
            return log_m
        total = jax.nn.logsumexp(log_m, axis=-1, keepdims=True)
        log_p = jax.nn.log_softmax(log_m / temperature, axis=-1)
        return total + (log_p if top_p == 1 else nucleus(log_p, top_p))

    return changed


def nucleus(log_p: Float[Array, "b *n v"], share: float | int) -> Float[Array, "b *n v"]:
    """The likeliest tokens that have `share` of the probability between them, renormalised."""
    order = jnp.sort(log_p, axis=-1, descending=True)
    before = jnp.cumsum(jnp.exp(order), axis=-1) - jnp.exp(order)
    least = jnp.where(before < share, order, jnp.inf).min(axis=-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(log_p >= least, log_p, -1e9), axis=-1)
