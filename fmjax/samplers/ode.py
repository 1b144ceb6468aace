"""Solve dx/dt = v(t, x) with a diffrax solver, in steps that are given or adapted.

Nothing here makes a host callback unless save points (`ts`) or `throw` ask for one, so that the
compiled program can be cached between processes and run on several hosts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey

FIRST_STEP = 0.01  # of the interval, where steps are adapted


def explicit(solver: Any) -> tuple[int, int]:
    """Network evaluations `(at the start, per step)` of an explicit Runge-Kutta solver.

    Where the last stage of a step is the first of the next ("FSAL"), a step costs one evaluation
    less and the start costs one. Rejected steps cost the same; interpolation costs none.
    TypeError: any other solver, as an implicit one iterates until it converges.
    """
    if isinstance(solver, diffrax.Euler):
        return 0, 1
    if isinstance(solver, diffrax.AbstractERK):
        stages, fsal = solver.tableau.num_stages, solver.tableau.fsal
        return (1, stages - 1) if fsal else (0, stages)
    raise TypeError(
        f"network evaluations of {type(solver).__name__} are not known: expected diffrax.Euler or "
        "an explicit Runge-Kutta solver; for others pass evaluations=lambda solver: (at the "
        "start, per step)"
    )


def ode(
    net: Callable[..., Any],
    key: PRNGKey | None,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    solver: Any = diffrax.Dopri5(),
    steps: int | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
    ts: Sequence[float] | np.ndarray | None = None,
    per_sample: bool = False,
    grid: Callable[[Any], Any] = lambda u: u,
    max_steps: int = 4096,
    throw: bool = False,
    evaluations: Callable[[Any], tuple[int, int]] = explicit,
    adjoint: diffrax.AbstractAdjoint = diffrax.RecursiveCheckpointAdjoint(),
) -> tuple[Float[Array, " b *d"], Info]:
    """x(t1) of dx/dt = net(t, x, cond), x(t0) = x0. From data to noise: t0 = 1, t1 = 0.

    `key` belongs to the contract of samplers and is not used. `Info.nfe` counts the calls of
    `net` (a guided net is one net), those of rejected steps included.

    solver:     a diffrax solver: Euler, Heun, Midpoint, Ralston, Bosh3, Tsit5, Dopri5, Dopri8, or
                another with its `evaluations`. In a config `dict(name="diffrax:Heun")`.
    steps:      so many steps, along `grid`. None: adapted, such that the root mean square error
                over the whole batch keeps `rtol` and `atol`: a sample depends on its neighbours.
    per_sample: each example has its own steps and `nfe` `[b]`, independent of its neighbours. All
                wait for the slowest. Not for nets that look across the batch.
    ts:         save points within [t0, t1], in the order of integration, for `Info.ts` and
                `Info.xs`; between steps the solver interpolates (Euler: a line). A host callback.
    grid:       increasing map of [0, 1] onto itself, called once with a numpy array. Steps end at
                the image of the uniform grid, laid between the smaller and larger of t0 and t1.
    max_steps:  bound on adapted steps, rejected ones included.
    adjoint:    how to differentiate: `diffrax.RecursiveCheckpointAdjoint(checkpoints=…)`, or
                `BacksolveAdjoint()`, which keeps no states, has no save points, and whose gradient
                is only as good as the tolerance.

    The solve is in float32 (float64 under x64) and returns the type of `x0`.

    An adaptive solve that `max_steps` cuts short, or whose net is not finite, raises RuntimeError.
    A compiled program cannot: it returns NaN for the samples concerned, unless `throw`, which
    raises by a host callback. That is for one device only: a program on several gathers the
    samples, and aborts where it should raise.
    ValueError, TypeError: arguments that contradict this page.
    """
    t0, t1 = float(t0), float(t1)  # diffrax checks the sign of arrays by a host callback
    _check(solver, steps, rtol, atol, t0, t1, max_steps)
    at_start, per_step = evaluations(solver)
    save = diffrax.SaveAt(t1=True)
    if ts is not None:
        points = diffrax.SubSaveAt(ts=_common.save_points(ts, t0, t1))
        save = diffrax.SaveAt(subs=[diffrax.SubSaveAt(t1=True), points])
    if steps is None:
        control, first = diffrax.PIDController(rtol=rtol, atol=atol), FIRST_STEP * (t1 - t0)
    else:
        control, first, max_steps = _common.Grid(_common.times(grid, steps, t0, t1)), None, steps
    backsolved = isinstance(adjoint, diffrax.BacksolveAdjoint)

    def solve(field: Callable[..., Any], x: Array, c: PyTree) -> tuple[Any, ...]:
        field, c = _converted(field, t0, x, c) if backsolved else (field, c)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0,
            t1,
            first,
            x,
            c,
            saveat=save,
            stepsize_controller=control,
            adjoint=adjoint,
            max_steps=max_steps,
            throw=throw,
        )
        ok = solution.result == diffrax.RESULTS.successful
        ys = [solution.ys] if ts is None else solution.ys
        xs = [jnp.where(ok, saved, jnp.nan).astype(x0.dtype) for saved in ys]
        nfe = at_start + per_step * jnp.asarray(solution.stats["num_steps"], jnp.int32)
        return xs[0][0], xs[1:], nfe, ok

    if per_sample:
        alone = jax.vmap(lambda x, c: solve(_one(net), x, c), out_axes=(0, 1, 0, 0))
        x1, xs, nfe, ok = alone(x0, cond)
    else:
        x1, xs, nfe, ok = solve(_common.field(net), x0, cond)
    if steps is None:
        _raise_unless(ok, max_steps)
    return x1, Info(nfe, None if ts is None else points.ts, xs[0] if xs else None)


def _converted(
    net: Callable[..., Array], t: float, x: Array, cond: PyTree
) -> tuple[Callable[..., Array], PyTree]:
    """The field with what it closes over among its arguments, where `BacksolveAdjoint` sees it."""
    pure, closed_over = jax.closure_convert(net, jnp.asarray(t, x.dtype), x, cond)

    def field(t: Array, x: Array, args: PyTree) -> Array:
        cond, closed_over = args
        return pure(jnp.asarray(t, x.dtype), x, cond, *closed_over)

    return field, (cond, closed_over)


def _one(net: Callable[..., Any]) -> Callable[..., Array]:
    """The field of one example without its batch axis."""
    field = _common.field(net)
    return lambda t, x, cond: field(t, x[None], jax.tree.map(lambda c: c[None], cond))[0]


def _check(
    solver: Any, steps: int | None, rtol: float, atol: float, t0: float, t1: float, max_steps: int
) -> None:
    if not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(
            f"solver {solver!r}: expected a diffrax solver such as diffrax.Heun(), "
            'in a config dict(name="diffrax:Heun")'
        )
    if not (0 <= t0 <= 1 and 0 <= t1 <= 1) or t0 == t1:
        raise ValueError(f"t0={t0}, t1={t1}: expected two different times from 0 to 1")
    if steps is not None:
        if steps < 1:
            raise ValueError(f"steps={steps}: expected at least 1, or None for adapted steps")
        return
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"{type(solver).__name__} cannot adapt its steps: give their number, steps="
        )
    if rtol < 0 or atol < 0 or rtol + atol == 0 or max_steps < 1:
        raise ValueError(
            f"rtol={rtol}, atol={atol}, max_steps={max_steps}: expected tolerances of at least 0, "
            "one above, and at least 1 step"
        )


def _raise_unless(ok: Array, max_steps: int) -> None:
    if isinstance(ok, jax.core.Tracer) or bool(np.all(ok)):
        return
    raise RuntimeError(
        f"the adaptive solve did not arrive within max_steps={max_steps}. If the net is finite: "
        "raise max_steps, loosen rtol and atol, or give a number of steps"
    )
