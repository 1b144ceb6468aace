"""Solve dx = [v + (g²/2) ∇log p_t] dt + g dW, which has the marginals of dx/dt = v for every g.

On an affine path with a normal source ∇log p_t = −E[x0 | x_t]/(σ std²), and v gives E[x0 | x_t].
With g² in units of std² the drift is

    v − g²/(2σ) · E[x0 | x_t],   finite everywhere if g² vanishes with σ.

A diffusion is a function `(path, t) -> g²` in these units, SiT's w (Ma et al. 2024, 2401.08740,
table 2, "SiT"; Albergo et al. 2023, 2303.08797, eq. 2.33). More noise corrects more of the
net's errors, and needs more steps. Noise is additive, so Itô and Stratonovich agree.
"""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fmjax import paths
from fmjax.paths import Path
from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey

Times = Float[Array, "*b"]


def proportional(path: Path, t: Times, *, scale: float | int = 1.0) -> Times:
    """g² = scale σ(t): vanishes with the noise."""
    return scale * path.sigma(t)


def quadratic(path: Path, t: Times, *, scale: float | int = 1.0) -> Times:
    """g² = scale σ(t)²: gentle near the data."""
    return scale * path.sigma(t) ** 2


def decreasing(path: Path, t: Times, *, scale: float | int = 1.0) -> Times:
    """g² = scale (1 + cos πt)²/4: SiT's decreasing one."""
    return scale * (1 + jnp.cos(jnp.pi * t)) ** 2 / 4


def bump(path: Path, t: Times, *, scale: float | int = 1.0) -> Times:
    """g² = scale sin²(πt): SiT's increasing-decreasing one; none at either end."""
    return scale * jnp.sin(jnp.pi * t) ** 2


def constant(path: Path, t: Times, *, g: float | int = 1.0) -> Times:
    """The same g always: a Schrödinger bridge's. From a velocity alone it needs `last` > 0."""
    return g**2 * jnp.ones_like(t)


def reverse(path: Path, t: Times, *, floor: float = 0.05) -> Times:
    """g² = 2σ (α'σ − ασ')/α: the forward noising process run backwards (Song et al. 2020).

    α is taken to be at least `floor`, as it is 0 at t = 0; marginals are right for every floor.
    """
    rate1, rate0 = paths.velocity(path, t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    return 2 * sigma * (rate1 * sigma - alpha * rate0) / jnp.maximum(alpha, floor)


def sde(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    path: Path = paths.linear(),
    diffusion: Callable[[Path, Times], Times] = proportional,
    solver: Any = diffrax.Euler(),
    steps: int = 100,
    std: float | int = 1.0,
    last: float = 0.0,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
    ts: Sequence[float] | np.ndarray | None = None,
    grid: Callable[[Any], Any] = lambda u: u,
    evaluations: Callable[[Any], int] = _common.stages,
    adjoint: diffrax.AbstractAdjoint = diffrax.RecursiveCheckpointAdjoint(),
) -> tuple[Float[Array, " b *d"], Info]:
    """x(t1) of the process that carries x(t0) = x0 and has the net's marginals at all times.

    A net with a score of its own (`net.score`, from `losses.score_and_flow_matching`) may have
    any source, coupling and bridge; any other net a normal source, independent of the data, and
    the affine `path`. `Info.nfe` counts velocity and score nets alike.

    diffusion: one of this module, or any other `(path, t) -> g²`; 0: the ODE.
    solver:    Euler (that is Euler-Maruyama; weak order 1), EulerHeun, Heun, Midpoint, Ralston,
               ShARK, SRA1, SEA, … of diffrax. Heun: weak order 2 in the drift.
    steps:     along `grid`, see `ode`. Noise is drawn step by step: other steps, other paths.
    std:       the deviation of the normal source; g is in its units.
    last:      length of a final step in time without noise, x + last·v (linear path: E[x1 | x]),
               for a g that does not vanish at t = 1, such as SiT's 0.04.
    ts:        as in `ode`. Between the steps a line, which has less variance than the process:
               put save points on the grid where that matters.
    t0, t1:    any two times; t0 > t1 runs the time-reversed process.

    Not for the singular end of `paths.vp`: there t1 = 0.999. ValueError: arguments that
    contradict this page, a g that would divide by zero, with the remedy.
    """
    t0, t1 = float(t0), float(t1)
    _common.check(steps, t0, t1)
    if last and not (0 < last < t1 - t0):
        raise ValueError(f"last={last}: expected 0, or less than the {t1 - t0} from t0 to t1")
    end = t1 - last
    own_score = hasattr(net, "score")
    if not own_score:
        _check_vanishes(path, diffusion, (t0, end))
    count = evaluations(solver)
    points = None if ts is None else _common.save_points(ts, t0, t1)
    times = _common.times(grid, steps, t0, end)
    x = _common.widened(x0)
    drift = _common.field(drift_of(net, path, diffusion, std, 1 if t0 < t1 else -1))
    noise = _Noise(key, jnp.sort(times), x, lambda t: std * jnp.sqrt(diffusion(path, t)))
    saves = [diffrax.SubSaveAt(t1=True)]
    if points is not None:
        within = jnp.minimum(points, end) if t0 < t1 else points
        saves.append(diffrax.SubSaveAt(ts=within))
    solution = diffrax.diffeqsolve(
        diffrax.MultiTerm(diffrax.ODETerm(drift), noise),
        solver,
        t0,
        end,
        None,
        x,
        cond,
        saveat=diffrax.SaveAt(subs=saves),
        stepsize_controller=_common.Grid(times),
        adjoint=adjoint,
        max_steps=steps,
        throw=False,
    )
    x, xs = solution.ys[0][0], None if points is None else solution.ys[1]
    nfe = count * steps * (2 if own_score else 1)
    if last:
        v = _common.field(net)(jnp.asarray(end), x, cond)
        if xs is not None:
            beyond = jnp.maximum(points - end, 0).astype(x.dtype)
            xs = xs + beyond.reshape(-1, *(1,) * x.ndim) * v[None]
        x, nfe = x + last * v, nfe + 1
    xs = None if xs is None else xs.astype(x0.dtype)
    return x.astype(x0.dtype), Info(jnp.asarray(nfe), points, xs)


# a velocity gives the score only if x0 is normal and independent of x1 (`assemble` warns)
sde.needs_independent_normal = True


def drift_of(
    net: Callable[..., Any],
    path: Path,
    diffusion: Callable[[Path, Times], Times],
    std: float | int = 1.0,
    direction: int = 1,
    eps: float = 1e-3,
) -> Callable[..., Array]:
    """v + direction·(std g)²/2 · score as a function of (t, x, cond); one evaluation of the net.

    At a time where it is not defined, its value at t clipped to [eps, 1 − eps].
    """
    if hasattr(net, "score"):

        def drift(t: Any, x: Any, cond: Any = None) -> Array:
            strength = direction * std**2 * diffusion(path, jnp.asarray(t, x.dtype)) / 2
            return net(t, x, cond) + strength * net.score(t, x, cond)

        return drift

    def strength(t: Array) -> Array:
        return diffusion(path, t) / (2 * path.sigma(t))

    def conversion(t: Array) -> tuple[Array, Array]:
        return paths.coefficients(path, t, of=paths.velocity, to=paths.x0)

    def converted(t: Any, x: Any, cond: Any = None) -> Array:
        t = jnp.asarray(t, jnp.float32)
        inside = jnp.clip(t, eps, 1 - eps)
        c = strength(t)
        c = direction * jnp.where(jnp.isfinite(c), c, strength(inside))
        t = jnp.where(jnp.all(jnp.isfinite(jnp.stack(conversion(t)))), t, inside)
        scale, shift = conversion(t)
        a, b = jnp.stack([1 - c * scale, -c * shift]).astype(x.dtype)
        return a * net(t, x, cond) + b * x

    return converted


class _Noise(diffrax.AbstractTerm):
    """g(t) dW, with an increment of its own for each step of a fixed grid.

    Diffrax's Brownian paths either remember what they need not here (`VirtualBrownianTree`, ten
    times slower), or may not be differentiated through (`UnsafeBrownianPath`).
    """

    key: PRNGKey
    times: Array
    like: Array
    g: Callable[[Array], Array]

    def vf(self, t: Any, y: Any, args: Any) -> Array:
        return self.g(jnp.asarray(t, self.like.dtype))

    def contr(self, t0: Any, t1: Any, *, use_levy: bool = False, **kw: Any) -> Any:
        step = jnp.searchsorted(self.times, (t0 + t1) / 2)
        key_w, key_h = jax.random.split(jax.random.fold_in(self.key, step))
        dt = jnp.asarray(t1 - t0, self.like.dtype)
        w = jnp.sqrt(dt) * _common.normal(key_w, self.like)
        if not use_levy:
            return w
        return diffrax.SpaceTimeLevyArea(
            dt, w, jnp.sqrt(dt / 12) * _common.normal(key_h, self.like)
        )

    def prod(self, vf: Array, control: Any) -> Any:
        return vf * control


def _check_vanishes(
    path: Path, diffusion: Callable[[Path, Times], Times], ends: tuple[float, float]
) -> None:
    with jax.ensure_compile_time_eval():  # both have values under jit too
        for t in ends:
            sigma = float(path.sigma(jnp.float32(t)))
            g2 = diffusion(path, jnp.float32(t))
            if sigma < 1e-6 and float(g2) > 1e-5:
                raise ValueError(
                    f"g² is {float(g2):.3g} at t={t}, where σ is 0 and the score, which a velocity "
                    "net gives as −E[x0 | x_t]/σ, is not known. Use a diffusion that vanishes "
                    "there (proportional, quadratic, decreasing, bump, reverse), or last=0.04 "
                    "for a final step without noise, or a net with a score of its own"
                )
