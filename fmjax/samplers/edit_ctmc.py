"""The chain of edit flows: texts that grow, shrink and change, in steps of time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from fmjax import edits, paths, tokens
from fmjax.samplers import _common, _tokens
from fmjax.types import Info, PRNGKey


def edit_ctmc(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Int[Array, "b n"],
    cond: PyTree = None,
    *,
    end: int | None,
    path: paths.Path = paths.linear(),
    steps: int = 64,
    grid: Callable[[Any], Any] = lambda u: u,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    high: bool = True,
) -> tuple[Int[Array, "b n"], Info]:
    """Every place at once: an edit with probability min(1, u (κ_s − κ_t)/(1 − κ_t)) on [t, s].

    Before each place a token is inserted or not, and the place itself kept, deleted or changed;
    then rows are made compact again, and tokens beyond the n-th are dropped. u are the net's
    numbers of edits left to do, a share of which falls into the step: of one that is sure the
    probability is exact, where Euler's 1 − exp(−h λ) would leave some undone at the end. A gap
    gets one token a step at most, so have steps enough for texts to double in, and many more.

    temperature, top_p: of which token is inserted or substituted, not of how often
    grid, high: as in `ctmc`. From x0, such as `sources.empty`, or a text to be edited as `source`s
    were in training. NFE: steps. The error in law falls as 1/steps. ValueError: no end.
    Havasi et al. 2025 (2506.09018).
    """
    if steps < 1 or end is None:
        raise ValueError(
            f"steps={steps}, end={end}: expected at least 1, and the token that ends a text, which "
            "a codec with end=True has"
        )
    sharper = _tokens.sharper(temperature=temperature, top_p=top_p)
    times = _common.times(grid, steps, 0.0, 1.0)
    kappa = path.alpha(times)
    shares = (kappa[1:] - kappa[:-1]) / (1 - kappa[:-1])

    def advance(x: Any, step: Any) -> Any:
        t, share, key = step
        key_before, key_token, key_instead, key_new = jax.random.split(key, 4)
        found = jax.tree.map(lambda a: a.astype(jnp.float32), net(t, x, cond))
        insert, substitute = sharper(found.insert), sharper(found.substitute)
        new = tokens.categorical(key_token, insert, high=high)
        before = jnp.where(_happens(key_before, share, insert), new, end)
        change = jnp.concatenate([substitute, found.delete[..., None]], axis=-1)
        new = tokens.categorical(key_new, change, high=high)
        new = jnp.where(new == substitute.shape[-1], end, new)
        instead = jnp.where(_happens(key_instead, share, change), new, x)
        return edits.edited(x, before.astype(x.dtype), instead.astype(x.dtype), end=end), None

    keys = jax.random.split(key, steps)
    x, _ = jax.lax.scan(advance, x0, (times[:-1], shares, keys))
    return x, Info(jnp.asarray(steps))


def _happens(key: PRNGKey, share: Any, log_u: Any) -> Array:
    """Whether any of the edits of a place does, all of them on the last axis."""
    odds = share * jnp.exp(jax.nn.logsumexp(log_u, axis=-1))
    return jax.random.uniform(key, odds.shape) < odds
