"""Bridges from x0 to x1 with noise of their own: x_t = α(t) x1 + σ(t) x0 + γ(t) z, z ~ N(0, I).

A bridge is `(key, t, x0, x1) -> Point(xt, ut, aux)`; those here give `aux = Latent(z, γ)`, so that

    E[u_t | x_t]  is the velocity of the law of x_t,   −E[z | x_t]/γ(t)  its score,

whatever x0 and x1 are and however they are coupled. `paths.bridge` is the one without noise.
Albergo, Boffi and Vanden-Eijnden 2023, "Stochastic interpolants" (2303.08797).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import paths
from fmjax.types import Point, PRNGKey, Time

Gamma = Callable[[Float[Array, "*b"]], Float[Array, "*b"]]


class Latent(NamedTuple):
    """The noise `z` of a point and its scale `gamma`; the score given both ends is −z/γ."""

    z: Float[Array, " b *d"]
    gamma: Float[Array, "*b"]


def root(t: Float[Array, "*b"], *, scale: float | int = 1.0) -> Float[Array, "*b"]:
    """γ = scale √(t(1 − t)), a Brownian bridge's. γ' is infinite at both ends."""
    return scale * jnp.sqrt(t * (1 - t))


def parabola(t: Float[Array, "*b"], *, scale: float | int = 1.0) -> Float[Array, "*b"]:
    """γ = scale t(1 − t): smooth everywhere."""
    return scale * t * (1 - t)


def sine(t: Float[Array, "*b"], *, scale: float | int = 1.0) -> Float[Array, "*b"]:
    """γ = scale sin²(πt): smooth everywhere, flat at both ends."""
    return scale * jnp.sin(jnp.pi * t) ** 2


def constant(t: Float[Array, "*b"], *, scale: float | int = 1.0) -> Float[Array, "*b"]:
    """γ = scale, at the ends too: the path noise of TorchCFM (Tong et al. 2023, 2302.00482)."""
    return scale * jnp.ones_like(t)


def stochastic_interpolant(
    *, path: paths.Path = paths.linear(), gamma: Gamma = root, eps: float = 1e-3
) -> paths.Bridge:
    """x_t = α x1 + σ x0 + γ z and u_t = α' x1 + σ' x0 + γ' z.

    `paths.linear()` and `paths.cosine()` are the paper's linear and trigonometric interpolants.
    eps: γ' alone is taken at t clipped to [eps, 1 − eps], as √(t(1 − t)) is infinitely steep at
    the ends. Beyond, the mean of u_t is off by at most |γγ'| times the score, which moves a
    sample by eps·scale²·|score|/2; nearer, u_t would only be noisier. 0 for a smooth γ.
    """

    def point(key: PRNGKey, t: Time, x0: Float[Array, " b *d"], x1: Float[Array, " b *d"]) -> Point:
        t = jnp.asarray(t, x1.dtype)
        xt, ut = paths.interpolate(path, t, x0, x1)
        z = jax.random.normal(key, x1.shape, x1.dtype)
        scale, inside = gamma(t), jnp.clip(t, eps, 1 - eps)
        rate = jax.jvp(gamma, (inside,), (jnp.ones_like(inside),))[1]
        xt, ut = xt + paths.like(scale, z) * z, ut + paths.like(rate, z) * z
        return Point(xt, ut, Latent(z, scale))

    return point


def brownian(*, sigma: float | int = 1.0, eps: float = 1e-3) -> paths.Bridge:
    """Brownian motion of variance σ² t, held at x0 and x1: linear with γ = σ √(t(1 − t)).

    With the plan of entropic optimal transport (cost |x0 − x1|²/2, regularisation σ²; that is
    2σ² for the cost |x0 − x1|²), x_t has the law of the Schrödinger bridge, whose drift is
    velocity + σ²/2 · score. Tong et al. 2023 (2307.03672).
    """
    return stochastic_interpolant(gamma=lambda t: root(t, scale=sigma), eps=eps)


def encoder_decoder(*, scale: float | int = 1.0) -> paths.Bridge:
    """From x0 to pure noise at t = 1/2, and from it to x1: cos²(πt) of one end, γ = sin²(πt).

    `scale`: deviation of the noise. x0 and x1 never mix, so no coupling changes the law of x_t.
    """
    path = paths.Path(
        lambda t: jnp.where(t > 0.5, jnp.cos(jnp.pi * t) ** 2, 0.0),
        lambda t: jnp.where(t > 0.5, 0.0, jnp.cos(jnp.pi * t) ** 2),
    )
    return stochastic_interpolant(path=path, gamma=lambda t: sine(t, scale=scale), eps=0.0)


def merged(*, path: paths.Path, gamma: Gamma) -> paths.Path:
    """(α, √(σ² + γ²)): the affine path with the law and the velocity of an interpolant.

    Only where x0 is standard normal and independent of x1: then σ x0 + γ z is one normal. It
    gives what converts a velocity into a score (`nets`, the stochastic samplers) its path.
    """
    return paths.Path(path.alpha, lambda t: jnp.sqrt(path.sigma(t) ** 2 + gamma(t) ** 2))
