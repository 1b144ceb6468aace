"""Probability paths x_t = α(t) x1 + σ(t) x0, from noise (t = 0) to data (t = 1).

Everything a network may predict is a row of coordinates on (x1, x0):

    x_t = (α, σ)    x1 = (1, 0)    x0 = (0, 1)    velocity = (α', σ')    score = (0, −1/σ)

so from x_t and a prediction with row (a, b), a target with row (p, q) is one 2×2 solve:

    target = λ·prediction + μ·x_t,   λ = (pσ − qα)/det,   μ = (aq − bp)/det,   det = aσ − bα,

and squared errors scale by λ². Derivatives come from `jax.jvp`, so a path is two functions.
The velocity is Lipman et al. 2022 (arXiv 2210.02747), eq. 15, with time from noise to data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from fmjax.types import Point, PRNGKey, Time

Scalar = Float[Array, "*b"]


class Path(NamedTuple):
    """Two functions of time with α(0) = 0, σ(0) = 1, α(1) = 1, σ(1) = 0 (or nearly so)."""

    alpha: Callable[[Scalar], Scalar]
    sigma: Callable[[Scalar], Scalar]


Row = Callable[[Path, Scalar], tuple[Scalar, Scalar]]
Bridge = Callable[[PRNGKey, Time, Float[Array, " b *d"], Float[Array, " b *d"]], Point]


def linear(*, sigma_min: float = 0.0) -> Path:
    """x_t = t x1 + (1 − (1 − σ_min) t) x0: straight lines (Lipman et al. 2022; Liu et al. 2022)."""
    return Path(lambda t: t, lambda t: 1 - (1 - sigma_min) * t)


def cosine() -> Path:
    """x_t = sin(πt/2) x1 + cos(πt/2) x0: keeps the variance (Albergo et al. 2022, 2209.15571)."""
    # sin(π(1 − t)/2) is the cosine, and exactly 0 at t = 1, where cos(π/2) rounds below 0
    return Path(lambda t: jnp.sin(jnp.pi / 2 * t), lambda t: jnp.sin(jnp.pi / 2 * (1 - t)))


def polynomial(*, power: float = 2.0) -> Path:
    """x_t = tⁿ x1 + (1 − tⁿ) x0 for n ≥ 1; n = 1 is `linear`."""
    if power < 1:
        raise ValueError(f"power {power}: expected at least 1, else the velocity is infinite at 0")
    return Path(lambda t: t**power, lambda t: 1 - t**power)


def vp(*, beta_min: float = 0.1, beta_max: float = 20.0) -> Path:
    """α² + σ² = 1 with log α = −s²(β₁ − β₀)/4 − sβ₀/2, s = 1 − t (Song et al. 2020, 2011.13456).

    α(0) = 0.0066 rather than 0. The velocity is infinite at t = 1: sample t up to 1 − 1e-3
    (`times.uniform(high=0.999)`) and end the sampler there.
    """

    def log_alpha(t: Any) -> Any:  # a number will do, too
        s = 1 - t
        return -(s**2) * (beta_max - beta_min) / 4 - s * beta_min / 2

    return Path(
        lambda t: jnp.exp(log_alpha(t)),
        lambda t: jnp.sqrt(-jnp.expm1(2 * log_alpha(t))),
    )


def linear_vp() -> Path:
    """x_t = t x1 + √(1 − t²) x0: keeps the variance, with α = t (Lipman et al. 2024, 2412.06264).

    The velocity is infinite at t = 1, as for `vp`: end the sampler, and the law of t, before it.
    """
    return Path(lambda t: t, lambda t: jnp.sqrt((1 - t) * (1 + t)))


def ve(*, sigma_min: float = 0.01, sigma_max: float = 50.0) -> Path:
    """x_t = x1 + (σ_min/σ_max)ᵗ x0, for the source `sources.normal(std=sigma_max)`.

    The variance-exploding path (Song et al. 2020, 2011.13456): noise of the deviation σ_max at
    t = 0 and σ_min at t = 1, in a geometric progression. α(0) = 1, not 0: the source is x_0's
    law only as far as σ_max dwarfs the data. Conversions to the score need the source's
    deviation, `score_of(std=sigma_max)`, and so do the stochastic samplers, `std=sigma_max`.
    """
    return Path(jnp.ones_like, lambda t: (sigma_min / sigma_max) ** t)


def scaled(path: Path, *, std: float | int) -> Path:
    """(α, std σ): the same points, written with a source of deviation 1 in place of `std`."""
    return Path(path.alpha, lambda t: std * path.sigma(t))


def x1(path: Path, t: Scalar) -> tuple[Scalar, Scalar]:
    """The row of the data (a denoiser's prediction): (1, 0)."""
    return jnp.ones_like(t), jnp.zeros_like(t)


def x0(path: Path, t: Scalar) -> tuple[Scalar, Scalar]:
    """The row of the noise (ε-prediction): (0, 1)."""
    return jnp.zeros_like(t), jnp.ones_like(t)


def velocity(path: Path, t: Scalar) -> tuple[Scalar, Scalar]:
    """The row of the conditional velocity: (α', σ')."""
    return jax.jvp(lambda s: (path.alpha(s), path.sigma(s)), (t,), (jnp.ones_like(t),))[1]


def score(path: Path, t: Scalar) -> tuple[Scalar, Scalar]:
    """The row of ∇ log p(x_t | x1) = −x0/σ for a standard normal source. Infinite where σ = 0."""
    return jnp.zeros_like(t), -1 / path.sigma(t)


def score_of(*, std: float | int) -> Row:
    """The row of ∇ log p(x_t | x1) = −x0/(σ std²) for the source N(0, std² I)."""

    def row(path: Path, t: Scalar) -> tuple[Scalar, Scalar]:
        return jnp.zeros_like(t), -1 / (std**2 * path.sigma(t))

    return row


def coefficients(path: Path, t: Time, *, of: Row, to: Row) -> tuple[Scalar, Scalar]:
    """(λ, μ) with `to` = λ·`of` + μ·x_t.

    Exact wherever det ≠ 0. Not defined (NaN or infinite, no limit is taken): x1 → other at σ = 0,
    x0 → other and score → other at α = 0, anything from or to the score at σ = 0.
    A row to itself is the identity at every t.
    """
    t = jnp.asarray(t, jnp.promote_types(jnp.result_type(t), jnp.float32))
    if of is to:
        return jnp.ones_like(t), jnp.zeros_like(t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    (a, b), (p, q) = of(path, t), to(path, t)
    det = a * sigma - b * alpha
    return (p * sigma - q * alpha) / det, (a * q - b * p) / det


def convert(
    path: Path,
    t: Time,
    xt: Float[Array, " b *d"],
    prediction: Float[Array, " b *d"],
    *,
    of: Row,
    to: Row,
) -> Float[Array, " b *d"]:
    """The row `to` at x_t from a prediction `of` another; see `coefficients`.

    Valid for expectations too, so it turns the marginal velocity into the marginal score.
    """
    scale, shift = coefficients(path, t, of=of, to=to)
    return like(scale, xt) * prediction + like(shift, xt) * xt


def weight(t: Time, *, path: Path, to: Row, of: Row = velocity) -> Scalar:
    """λ²(t): a squared error in `of` times this is the squared error in `to`."""
    return coefficients(path, t, of=of, to=to)[0] ** 2


def interpolate(
    path: Path, t: Time, x0: Float[Array, " b *d"], x1: Float[Array, " b *d"]
) -> tuple[Float[Array, " b *d"], Float[Array, " b *d"]]:
    """(x_t, u_t) with x_t = α x1 + σ x0 and u_t = α' x1 + σ' x0."""
    t = jnp.asarray(t, x1.dtype)
    (alpha, sigma), (d_alpha, d_sigma) = jax.jvp(
        lambda s: (path.alpha(s), path.sigma(s)), (t,), (jnp.ones_like(t),)
    )
    return (
        like(alpha, x1) * x1 + like(sigma, x1) * x0,
        like(d_alpha, x1) * x1 + like(d_sigma, x1) * x0,
    )


def bridge(path: Path) -> Bridge:
    """The bridge of a path: deterministic given (t, x0, x1), its key unused."""

    def point(key: PRNGKey, t: Time, x0: Num[Array, " b *d"], x1: Num[Array, " b *d"]) -> Point:
        if not jnp.issubdtype(x1.dtype, jnp.inexact):
            raise ValueError(
                f"examples of {x1.dtype} are tokens, which have no lines between them: give "
                'config.bridge = dict(name="fmjax.tokens:mixture")'
            )
        return Point(*interpolate(path, t, x0, x1))

    return point


def like(c: Scalar, x: Num[Array, " b *d"]) -> Float[Array, "..."]:
    """A scalar, or one value an example, shaped to multiply `x`."""
    return c if c.ndim == 0 else c.reshape(c.shape + (1,) * (x.ndim - c.ndim))
