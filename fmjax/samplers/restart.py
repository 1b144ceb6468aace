"""Restart: the ODE, with an interval of time walked again and again from fresh noise."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fmjax import nets, paths
from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey


def restart(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    path: paths.Path = paths.linear(),
    interval: tuple[float, float] = (0.5, 0.9),
    repeats: int = 2,
    solver: Any = diffrax.Heun(),
    steps: int = 20,
    std: float | int = 1.0,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
    grid: Callable[[Any], Any] = lambda u: u,
) -> tuple[Float[Array, " b *d"], Info]:
    """At time b of `interval` (a, b), `repeats` times: back to a by adding noise, and on to b.

    x_a = (α_a/α_b) x_b + √(σ_a² − (α_a/α_b)² σ_b²) std z has the law of time a exactly if x_b has
    that of b, and forgets part of the errors made before. a and b move to the nearest times of
    the grid, whose steps between them are walked again.
    solver: a step of the ODE by diffrax: Euler, Heun, Midpoint, Ralston. `std`: of the source.
    Only for a velocity net on an affine path from a normal source independent of the data.
    NFE: stages · (steps + repeats · steps within the interval). Xu et al. 2023 (2306.14878).
    """
    t0, t1 = float(t0), float(t1)
    _common.check(steps, t0, t1)
    nets.check_plain(net)
    stages = _common.stages(solver)
    with jax.ensure_compile_time_eval():  # the walk is laid out on the host, under jit too
        times = np.asarray(_common.times(grid, steps, t0, t1))
        low, high = (int(np.argmin(np.abs(times - t))) for t in interval)
        if t0 > t1 or repeats < 0 or not 0 <= low < high < steps:
            raise ValueError(
                f"interval {interval}, repeats={repeats}, from t0={t0} to t1={t1} in {steps} "
                "steps: expected t0 ≤ a < b < t1, at least one step apart, and 0 repeats or more"
            )
        keep, fresh = _common.renoise(path, float(times[low]), float(times[high]))
    again = repeats * [*range(low, high)]
    order = np.array([*range(high), *again, *range(high, steps)])
    jumps = np.zeros(len(order), bool)
    jumps[high : high + len(again) : high - low] = True
    field = _common.field(net)

    def advance(x: Array, step: Any) -> tuple[Array, None]:
        start, end, jump, key = step
        renoised = lambda: keep * x + fresh * std * _common.normal(key, x)  # noqa: E731
        x = jax.lax.cond(jump, renoised, lambda: x)
        return _common.step(solver, field, start, end, x, cond), None

    keys = jax.random.split(key, len(order))
    walk = (times[order], times[order + 1], jnp.asarray(jumps), keys)
    x, _ = jax.lax.scan(advance, _common.widened(x0), walk)
    return x.astype(x0.dtype), Info(jnp.asarray(stages * len(order)))


# a velocity gives the score only if x0 is normal and independent of x1 (`assemble` warns)
restart.needs_independent_normal = True
