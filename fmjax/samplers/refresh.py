"""Noise refresh: predict both ends, keep the data, and replace part of the noise, at each step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fmjax import nets, paths
from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey


def refresh(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    path: paths.Path = paths.linear(),
    eta: float | int = 1.0,
    steps: int = 50,
    std: float | int = 1.0,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
    grid: Callable[[Any], Any] = lambda u: u,
) -> tuple[Float[Array, " b *d"], Info]:
    """x ← α' E[x1|x] + σ' (√(1 − η²r) E[x0|x] + η √r std z), r = 1 − (ασ'/α'σ)².

    From a time (α, σ) to the next one (α', σ'); r is the share of the noise there that the
    noising process would have added since. η = 0 is DDIM, η = 1 ancestral sampling (DDPM); for
    each, the marginals are right as steps grow, with an error of order 1/steps. NFE: steps.
    `std`: of the source. Only for a velocity net on an affine path from a normal source
    independent of the data. Song et al. 2020 (2010.02502), eq. 12 and 16, on any affine path.
    """
    t0, t1 = float(t0), float(t1)
    _common.check(steps, t0, t1)
    if t0 > t1 or not 0 <= eta <= 1:
        raise ValueError(f"t0={t0}, t1={t1}, eta={eta}: expected t0 < t1 and eta from 0 to 1")
    nets.check_plain(net)
    both = nets.ends(_common.field(net), path=path)
    times = _common.times(grid, steps, t0, t1)

    def advance(x: Array, step: Any) -> tuple[Array, None]:
        t, after, key = step
        x1, noise = both(t, x, cond)
        alpha, sigma = path.alpha(after), path.sigma(after)
        share = 1 - (path.alpha(t) * sigma / (alpha * path.sigma(t))) ** 2
        kept, fresh = jnp.sqrt(1 - eta**2 * share), eta * std * jnp.sqrt(share)
        return alpha * x1 + sigma * (kept * noise + fresh * _common.normal(key, x)), None

    x = _common.widened(x0)
    x, _ = jax.lax.scan(advance, x, (times[:-1], times[1:], jax.random.split(key, steps)))
    return x.astype(x0.dtype), Info(jnp.asarray(steps))


# a velocity gives the score only if x0 is normal and independent of x1 (`assemble` warns)
refresh.needs_independent_normal = True
