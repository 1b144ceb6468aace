"""What samplers share: times laid on the host, checks, and single steps of a diffrax solver."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fmjax import paths
from fmjax.types import PRNGKey


class Grid(diffrax.StepTo):
    """`StepTo` for times checked on the host, where its own checks would be host callbacks."""

    def wrap(self, direction: Any) -> "Grid":
        """The times as diffrax counts them, always upwards."""
        # sorted, as `BacksolveAdjoint` solves against the direction of the times
        return Grid(jnp.sort(self.ts * direction))

    def init(self, *_: Any) -> tuple[Any, int]:
        """The end of the first step."""
        return self.ts[1], 2


def times(
    grid: Callable[[Any], Any], steps: int, t0: float | int, t1: float | int
) -> Float[Array, " n"]:
    """The image of the uniform grid of `steps` steps, from t0 to t1. ValueError: not increasing."""
    with jax.ensure_compile_time_eval():  # a grid written in jax.numpy has values under jit too
        u = np.asarray(grid(np.linspace(0, 1, steps + 1)), np.float64)
    if u.shape != (steps + 1,) or not np.allclose(u[[0, -1]], [0, 1], rtol=0, atol=1e-5):
        raise ValueError(f"grid gives {u}: expected {steps + 1} values from 0 to 1")
    times = min(t0, t1) + abs(t1 - t0) * u
    times[[0, -1]] = sorted((t0, t1))
    if not np.all(np.diff(times.astype(np.float32)) > 0):
        raise ValueError(f"grid with {steps} steps has times {times}: expected increasing ones")
    return jnp.asarray(times if t0 < t1 else times[::-1])


def save_points(ts: Any, t0: float | int, t1: float | int) -> Float[Array, " k"]:
    """Save points as an array. ValueError: not within [t0, t1] in the order of integration."""
    points = np.asarray(ts, np.float64)
    inside = np.all((points >= min(t0, t1)) & (points <= max(t0, t1)))
    if points.ndim != 1 or not inside or np.any(np.diff(points) * (t1 - t0) < 0):
        raise ValueError(f"save points {ts}: expected times from t0={t0} to t1={t1}, in that order")
    return jnp.asarray(points)


def field(net: Callable[..., Any]) -> Callable[..., Array]:
    """Diffrax would broadcast a velocity of another shape; a low precision one is widened."""

    def checked(t: Array, x: Array, cond: PyTree) -> Array:
        v = net(t, x, cond)
        if v.shape != x.shape:
            raise ValueError(f"the net returned shape {v.shape}, expected that of x, {x.shape}")
        return v.astype(x.dtype)

    return checked


def check(steps: int, t0: float, t1: float) -> None:
    """ValueError unless these are steps from one time to another."""
    if steps < 1:
        raise ValueError(f"steps={steps}: expected at least 1")
    if not (0 <= t0 <= 1 and 0 <= t1 <= 1) or t0 == t1:
        raise ValueError(f"t0={t0}, t1={t1}: expected two different times from 0 to 1")


def widened(x: Float[Array, " b *d"]) -> Float[Array, " b *d"]:
    """In float32 at least, which is what samplers compute in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def stages(solver: Any) -> int:
    """Evaluations of the drift in one step. TypeError: a solver for which they are not known."""
    if isinstance(solver, diffrax.Euler | diffrax.EulerHeun):
        return 1
    if isinstance(solver, diffrax.AbstractERK) and not solver.tableau.fsal:
        return solver.tableau.num_stages
    if isinstance(solver, diffrax.AbstractSRK):
        ignored = solver.tableau.ignore_stage_f
        return len(solver.tableau.b_sol) - (0 if ignored is None else int(np.sum(ignored)))
    raise TypeError(
        f"network evaluations of {solver!r} are not known: expected diffrax's Euler, EulerHeun, "
        "Heun, Midpoint, Ralston, ShARK, SRA1 or SEA; for others pass evaluations=lambda solver: "
        "those of one step"
    )


def step(
    solver: Any,
    field: Callable[..., Array],
    t0: Float[Array, ""],
    t1: Float[Array, ""],
    x: Float[Array, " b *d"],
    cond: PyTree,
) -> Float[Array, " b *d"]:
    """One step of a solver that keeps nothing between steps (one that `stages` knows)."""
    term = diffrax.ODETerm(field)
    state = solver.init(term, t0, t1, x, cond)
    return solver.step(term, t0, t1, x, cond, state, made_jump=False)[0]


def normal(key: PRNGKey, like: Float[Array, "..."]) -> Float[Array, "..."]:
    """Standard normal numbers."""
    # drawn flat: XLA compiles a vector's draw 4 times faster on the CPU
    return jax.random.normal(key, (like.size,), like.dtype).reshape(like.shape)


def renoise(path: paths.Path, low: float, high: float) -> tuple[float, float]:
    """What is kept of x_high, and how much noise it takes, to have the law of x_low."""
    (a_low, s_low), (a_high, s_high) = (
        (float(path.alpha(jnp.float32(t))), float(path.sigma(jnp.float32(t)))) for t in (low, high)
    )
    keep = a_low / a_high
    return keep, float(np.sqrt(max(s_low**2 - (keep * s_high) ** 2, 0.0)))


def given(a: Any, like: Float[Array, " b *d"], name: str) -> Array:
    """One array for all examples or one for each, of the shape of `like`; ValueError otherwise.

    Its last axis may have length 1, as that of a mask of colour images.
    """
    a = jnp.asarray(a)
    one = a[None] if a.ndim == like.ndim - 1 else a
    rows, channels = like.shape[:1], like.shape[-1:]
    fits = one.ndim == like.ndim and one.shape[:1] in ((1,), rows)
    if not fits or one.shape[1:-1] != like.shape[1:-1] or one.shape[-1:] not in ((1,), channels):
        raise ValueError(
            f"{name} has shape {a.shape}: expected that of one example, {like.shape[1:]}, or one "
            f"for each of {rows[0]}, in the space of the model (encoded by the run's codec)"
        )
    return jnp.broadcast_to(one, like.shape)
