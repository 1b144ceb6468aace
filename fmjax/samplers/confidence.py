"""Masks replaced in the order of the net's confidence, some at each step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from fmjax import tokens
from fmjax.samplers import _common, _tokens
from fmjax.types import Info, PRNGKey


def confidence(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Int[Array, "b *n"],
    cond: PyTree = None,
    *,
    vocabulary: int,
    path: Any = None,
    steps: int = 32,
    grid: Callable[[Any], Any] = lambda u: u,
    noise: float | int = 1.0,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    high: bool = True,
    given: Any = None,
    known: Any = None,
) -> tuple[Int[Array, "b *n"], Info]:
    """Draw x1 where there are masks, keep the surest: at t, the share κ = α(t) of the positions.

    noise: times (1 − t), of Gumbel's noise on the log-probability that orders them; 0 is greedy
    path:  whose α is how many are kept by when (default: t itself)
    The rest as in `ctmc`. For the source of masks alone. The samples are not the model's law: they
    are likelier, and less diverse. NFE: steps. Chang et al. 2022 (2202.04200).
    """
    if steps < 1 or noise < 0:
        raise ValueError(f"steps={steps}, noise={noise}: expected at least 1 and at least 0")
    of = _tokens.masses(net, cond, temperature=temperature, top_p=top_p)
    held = _tokens.given(given, known, x0)
    times = _common.times(grid, steps, 0.0, 1.0)
    places = int(np.prod(x0.shape[1:]))

    def advance(x: Any, step: Any) -> Any:
        t, s, key = step
        key_x1, key_order = jax.random.split(key)
        log_m = of(t, x)
        masked = (x == vocabulary) & ~held.known
        x1 = tokens.categorical(key_x1, log_m, high=high)
        sure = tokens.at(jax.nn.log_softmax(log_m, axis=-1), x1)
        sure = sure + noise * (1 - t) * jax.random.gumbel(key_order, sure.shape)
        sure = jnp.where(masked, sure, -jnp.inf).reshape(len(x), -1)
        left = masked.reshape(len(x), -1).sum(axis=1)
        kappa = s if path is None else path.alpha(s)
        unknown = places - held.known.reshape(len(x), -1).sum(axis=1)
        wanted = jnp.where(s >= 1, 0, jnp.floor((1 - kappa) * unknown)).astype(left.dtype)
        rank = jnp.argsort(jnp.argsort(-sure, axis=1), axis=1)
        chosen = (rank < (left - wanted)[:, None]).reshape(x.shape) & masked
        return jnp.where(chosen, x1.astype(x.dtype), x), None

    keys = jax.random.split(key, steps)
    x, _ = jax.lax.scan(advance, held.kept(x0), (times[:-1], times[1:], keys))
    return x, Info(jnp.asarray(steps))


# what is no mask stays: from other noise the samples would be that noise (`assemble` refuses)
confidence.needs_masks = True
