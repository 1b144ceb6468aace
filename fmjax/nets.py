"""Maps of nets: the score, the ends' expectations, and other paths, from a velocity net.

All hold where x0 is normal and independent of x1, on the affine path x_t = α x1 + σ x0 that the
net was trained on: there the velocity alone tells E[x1 | x_t] and E[x0 | x_t]. They do not hold
for noise that a coupling ties to the data, nor for bridges with noise of their own (if such a
bridge has independent ends, use the path `bridges.merged`).

Where a coefficient has no value (`paths.vp` at t = 1, `paths.polynomial` at t = 0, the score
where σ = 0), the field is that of the time clipped to [eps, 1 − eps].
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import paths
from fmjax.paths import Path, Row

Net = Callable[..., Any]
Times = Float[Array, "*b"]


def score(net: Net, *, path: Path, std: float | int = 1.0, eps: float = 1e-3) -> Net:
    """∇ log p_t(x) = −E[x0 | x_t]/(σ std²) for the source N(0, std² I); `net.score` if it has one.

    What a net gets wrong is divided by σ: near the data prefer `noise` with factors of σ.
    """
    own = getattr(net, "score", None)
    return own or _prediction(net, path, paths.score_of(std=std), eps)


def denoiser(net: Net, *, path: Path, eps: float = 1e-3) -> Net:
    """E[x1 | x_t]."""
    return _prediction(net, path, paths.x1, eps)


def noise(net: Net, *, path: Path, eps: float = 1e-3) -> Net:
    """E[x0 | x_t]."""
    return _prediction(net, path, paths.x0, eps)


def ends(net: Net, *, path: Path, eps: float = 1e-3) -> Net:
    """(E[x1 | x_t], E[x0 | x_t]), from one evaluation of the net."""
    check_plain(net)

    def both(t: Any, x: Any, cond: Any = None, **kw: Any) -> tuple[Array, Array]:
        t = _inside(path, t, eps, paths.x1, paths.x0)
        v = net(t, x, cond, **kw)
        x1, x0 = (
            paths.convert(path, t, x, v, of=paths.velocity, to=row) for row in (paths.x1, paths.x0)
        )
        return x1, x0

    return both


def reschedule(net: Net, *, path: Path, to: Path, eps: float = 1e-3) -> Net:
    """The velocity on the path `to` of a net trained on `path`: v̄_r = ᾱ' E[x1] + σ̄' E[x0].

    x̄_r = s x_t for the time t with the same α/σ, and s the ratio of √(α² + σ²), so that both
    expectations at x̄_r are those at x_t = x̄_r/s. Both ratios must increase with time. What `to`
    needs beyond the noisiest or cleanest point of `path` is answered by that point.
    For a source of deviation std, give both as `paths.scaled(path, std=std)`.
    As guidance: `dict(bind="fmjax.nets:reschedule", to=dict(name="fmjax.paths:cosine"))`; a
    stochastic sampler then needs `path` to be `to`.
    Lipman et al. 2024 (2412.06264), post-training scheduler change; its ṡ and ṫ cancel here.
    """
    both = ends(net, path=path, eps=eps)

    def field(r: Any, x: Any, cond: Any = None, **kw: Any) -> Array:
        r = jnp.asarray(r, jnp.float32)
        t = _inside(path, _same_ratio(path, _angle(to, r)), eps, paths.x1, paths.x0)
        scale = paths.like(_norm(to, r) / _norm(path, t), x)
        x1, x0 = both(t, x / scale, cond, **kw)
        rate1, rate0 = paths.velocity(to, r)
        return paths.like(rate1, x) * x1 + paths.like(rate0, x) * x0

    return field


def _prediction(net: Net, path: Path, row: Row, eps: float) -> Net:
    check_plain(net)

    def field(t: Any, x: Any, cond: Any = None, **kw: Any) -> Array:
        t = _inside(path, t, eps, row)
        return paths.convert(path, t, x, net(t, x, cond, **kw), of=paths.velocity, to=row)

    return field


def check_plain(net: Net) -> None:
    """ValueError for a net with a score of its own, which no affine path goes with."""
    if hasattr(net, "score"):
        raise ValueError(
            "the net has a score of its own, hence a bridge with noise of its own: its velocity "
            "does not tell E[x1 | x_t] and E[x0 | x_t]. Use samplers.sde or samplers.ode"
        )


def _inside(path: Path, t: Any, eps: float, *rows: Row) -> Times:
    """`t` where the conversions to all `rows` have values there, else clipped."""
    t = jnp.asarray(t, jnp.float32)
    found = [paths.coefficients(path, t, of=paths.velocity, to=row) for row in rows]
    fine = jnp.all(jnp.isfinite(jnp.stack([c for pair in found for c in pair])), axis=0)
    return jnp.where(fine, t, jnp.clip(t, eps, 1 - eps))


def _angle(path: Path, t: Times) -> Times:
    """arctan(α/σ): the signal-to-noise ratio on a scale that is finite at both ends."""
    return jnp.arctan2(path.alpha(t), path.sigma(t))


def _norm(path: Path, t: Times) -> Times:
    return jnp.hypot(path.alpha(t), path.sigma(t))


def _same_ratio(path: Path, angle: Times) -> Times:
    """The time at which `path` has this angle, by bisection to rounding; an end, beyond both."""
    zero, one = jnp.zeros_like(angle), jnp.ones_like(angle)

    def halve(_: Any, ends: tuple[Times, Times]) -> tuple[Times, Times]:
        low, high = ends
        middle = (low + high) / 2
        below = _angle(path, middle) < angle
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, 30, halve, (zero, one))
    t = jnp.where(angle <= _angle(path, zero), zero, (low + high) / 2)
    return jnp.where(angle >= _angle(path, one), one, t)
