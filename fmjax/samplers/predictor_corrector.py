"""Predictor and corrector: a step of the ODE, then Langevin steps at the time it arrived at."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fmjax import nets, paths
from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey


def predictor_corrector(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    path: paths.Path = paths.linear(),
    solver: Any = diffrax.Euler(),
    steps: int = 50,
    corrections: int = 1,
    snr: float = 0.16,
    std: float | int = 1.0,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
    grid: Callable[[Any], Any] = lambda u: u,
) -> tuple[Float[Array, " b *d"], Info]:
    """After each step but the last, `corrections` times x ← x + ε ∇log p_t + √(2ε) z.

    ε = 2 (snr·σ(t)·std)², Song's 2 (snr |z|/|∇log p_t|)² with |∇log p_t| at its root mean
    square for noise alone, so that an example does not depend on its neighbours. A Langevin step
    leaves the marginals as they are up to O(snr⁴), and undoes errors of the predictor.
    solver: a step of the ODE by diffrax: Euler, Heun, Midpoint, Ralston. `std`: of the source.
    Only for a velocity net on an affine path from a normal source independent of the data.
    NFE: steps · stages + (steps − 1) · corrections. Song et al. 2020 (2011.13456), appendix G.
    """
    t0, t1 = float(t0), float(t1)
    _common.check(steps, t0, t1)
    if t0 > t1 or corrections < 0 or snr <= 0:
        raise ValueError(
            f"t0={t0}, t1={t1}, corrections={corrections}, snr={snr}: expected t0 < t1, at least "
            "0 corrections and a positive snr"
        )
    stages = _common.stages(solver)
    field, noise = _common.field(net), _common.field(nets.noise(net, path=path))
    times = _common.times(grid, steps, t0, t1)
    sigmas = jax.vmap(path.sigma)(times)

    def correct(x: Array, key: PRNGKey, t: Array, sigma: Array) -> Array:
        shift = -2 * snr**2 * sigma * noise(t, x, cond)  # ε ∇log p_t
        return x + shift + 2 * snr * sigma * std * _common.normal(key, x)

    def advance(x: Array, step: Any) -> tuple[Array, None]:
        start, end, sigma, key = step
        x = _common.step(solver, field, start, end, x, cond)
        keys = jax.random.split(key, corrections)
        return jax.lax.scan(lambda x, k: (correct(x, k, end, sigma), None), x, keys)[0], None

    x = _common.widened(x0)
    keys = jax.random.split(key, steps)
    x, _ = jax.lax.scan(advance, x, (times[:-2], times[1:-1], sigmas[1:-1], keys[:-1]))
    x = _common.step(solver, field, times[-2], times[-1], x, cond)
    nfe = steps * stages + (steps - 1) * corrections
    return x.astype(x0.dtype), Info(jnp.asarray(nfe))


# a velocity gives the score only if x0 is normal and independent of x1 (`assemble` warns)
predictor_corrector.needs_independent_normal = True
