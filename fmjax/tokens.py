"""Conditional paths of tokens from x0 (t = 0) to x1 (t = 1), and the chains that follow them.

Tokens are whole numbers: 0 … V − 1 are the data's, V is the mask, which only a source has. A path
is, for each position on its own, a law p_t(· | x0, x1) and a rate u_t(y, x | x0, x1) of jumps from
x to y that keeps it. The net gives the log-masses of a posterior, log m(v) ≈ log p(x1 = v | x_t),
and the chain of the marginals jumps at the rate

    u_t(y, x) = Σ_v m(v) u_t(y, x | x1 = v).

Masses that do not sum to 1 are what guidance in the space of rates makes: log m_0 + w (log m_c −
log m_0), `guidance.classifier_free` of log-masses, is the rate u_c^w u_0^(1 − w) of a mixture
(Nisonoff et al. 2024, 2406.01572). Campbell et al. 2024 (2402.04997); Gat et al. 2024 (2407.15595).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fmjax import paths
from fmjax.types import Point, PRNGKey, Time

Ids = Int[Array, "b *n"]
Masses = Float[Array, "b *n v"]
States = Float[Array, "b *n s"]  # s = v + 1: the mask is the last one


class Bridge(NamedTuple):
    """What a path of tokens is to losses, samplers and bounds.

    sample:  `(key, t, x0, x1) -> x_t`
    rates:   `(t, x, m) -> u_t(y, x)`, 0 at y = x
    advance: `(t, s, x, m) -> ` the law of the state at s ≥ t, with m as it was at t
    bound:   `(t, x, x1, log m) -> ` of each position, in nats by unit of time, the generalised
             Kullback-Leibler divergence of the rates given x1 from the marginal ones: its
             integral bounds −log p(x1) from above
    """

    sample: Callable[[PRNGKey, Time, Ids, Ids], Ids]
    rates: Callable[[Time, Ids, Masses], States]
    advance: Callable[[Time, Time, Ids, Masses], States]
    bound: Callable[[Time, Ids, Ids, Masses], Float[Array, "b *n"]]

    def __call__(self, key: PRNGKey, t: Time, x0: Ids, x1: Ids) -> Point:
        """The point of `sample`, as every bridge has it; what it aims at is x1."""
        return Point(self.sample(key, t, x0, x1), x1)


def hazard(t: Time, *, path: paths.Path = paths.linear()) -> Float[Array, "*b"]:
    """κ'/(1 − κ), κ = α(t): the rate of jumps to x1 by those positions that are still at x0."""
    t = _time(t)
    kappa, slope = jax.jvp(path.alpha, (t,), (jnp.ones_like(t),))
    return slope / (1 - kappa)


def _time(t: Time) -> Float[Array, "*b"]:
    return jnp.asarray(t, jnp.promote_types(jnp.result_type(t), jnp.float32))


def cosine() -> paths.Path:
    """κ = 1 − cos(πt/2), σ = 1 − κ: few tokens first (Chang et al. 2022, 2202.04200)."""
    return paths.Path(lambda t: 1 - jnp.cos(jnp.pi / 2 * t), lambda t: jnp.cos(jnp.pi / 2 * t))


def mixture(*, path: paths.Path = paths.linear()) -> Bridge:
    """p_t = κ δ_{x1} + (1 − κ) δ_{x0}, u_t(y, x) = κ'/(1 − κ) m(y): x0 until one jump to x1.

    κ is the `alpha` of the run's path, whose `sigma` plays no part. `advance` is exact for masses
    that sum to 1; of others the whole mass hastens the jump. Gat et al. 2024, eq. 9 and 22.
    """

    def kappa(t: Time, x: Any) -> Array:
        return paths.like(path.alpha(_time(t)), x)

    def sample(key: PRNGKey, t: Time, x0: Ids, x1: Ids) -> Ids:
        return jnp.where(jax.random.uniform(key, x1.shape) < kappa(t, x1), x1, x0)

    def rates(t: Time, x: Ids, m: Masses) -> States:
        return paths.like(hazard(t, path=path), m) * off(with_mask(m), x)

    def advance(t: Time, s: Time, x: Ids, m: Masses) -> States:
        total = m.sum(axis=-1)
        left = ((1 - kappa(s, x)) / (1 - kappa(t, x))) ** total
        # a guided mass may vanish: then nothing jumps
        jumped = with_mask(m) * ((1 - left) / jnp.maximum(total, 1e-30))[..., None]
        return jumped + left[..., None] * one_hot(x, m)

    def bound(t: Time, x: Ids, x1: Ids, log_m: Masses) -> Float[Array, "b *n"]:
        away = off(with_mask(jnp.exp(log_m)), x).sum(axis=-1)
        wrong = jnp.where(x == x1, 0.0, 1 + at(log_m, x1))
        return paths.like(hazard(t, path=path), x) * (away - wrong)

    return Bridge(sample, rates, advance, bound)


def kinetic(log_law: Callable[[Float[Array, " b"]], Float[Array, "b v s"]]) -> Bridge:
    """u_t(y, x | x1) = p_t(y) [∂ₜlog p_t(y) − ∂ₜlog p_t(x)]₊, for any p_t(· | x1) without x0.

    `log_law`: t → log p_t(y | x1 = v) `[b, v, s]`, with p_0 the source, the same for all v. Of the
    rates that keep the path these are of least kinetic energy. Memory: b n v s numbers.
    Shaul et al. 2024 (2412.03487), eq. 16. `advance` freezes the rates of the middle of the step.
    """

    def law(t: Time, x: Ids) -> tuple[Array, Array]:
        t = jnp.clip(jnp.broadcast_to(_time(t), x.shape[:1]), 1e-4, 1 - 1e-6)
        log_p, slope = jax.jvp(log_law, (t,), (jnp.ones_like(t),))
        return jnp.exp(log_p), slope

    def sample(key: PRNGKey, t: Time, x0: Ids, x1: Ids) -> Ids:
        del x0
        p, _ = law(t, x1)
        return categorical(key, jnp.log(_rows(p, x1)))

    def given(t: Time, x: Ids) -> Float[Array, "b n v s"]:
        p, slope = law(t, x)
        here = _rows(jnp.swapaxes(slope, 1, 2), x)[..., None]
        return p[:, None] * jax.nn.relu(slope[:, None] - here)

    def rates(t: Time, x: Ids, m: Masses) -> States:
        return off(jnp.einsum("bnv,bnvs->bns", m, given(t, x)), x)

    def advance(t: Time, s: Time, x: Ids, m: Masses) -> States:
        # of the middle, as rates may be infinite, or 0, at t = 0
        u = rates((t + s) / 2, x, m)
        total = u.sum(axis=-1, keepdims=True)
        stays = jnp.exp(-paths.like(jnp.asarray(s - t), u) * total)
        return (1 - stays) * u / jnp.maximum(total, 1e-30) + stays * one_hot(x, m)

    def bound(t: Time, x: Ids, x1: Ids, log_m: Masses) -> Float[Array, "b n"]:
        each = given(t, x)
        to = jnp.take_along_axis(each, x1[..., None, None], axis=2)[..., 0, :]
        u = off(jnp.einsum("bnv,bnvs->bns", jnp.exp(log_m), each), x)
        apart = jax.scipy.special.rel_entr(off(to, x), jnp.maximum(u, 1e-30))
        return (u - off(to, x) + apart).sum(axis=-1)

    return Bridge(sample, rates, advance, bound)


def metric(*, distance: Any, scale: float | int = 3.0, power: float | int = 0.9) -> Bridge:
    """p_t(y | x1) ∝ exp(−β_t d(y, x1)), β_t = scale (t/(1 − t))^power: near tokens last.

    `distance` `[v, v]`, such as of notes by pitch; or a function of no argument that gives it. The
    source is uniform (`sources.uniform_tokens`). Shaul et al. 2024 (2412.03487), eq. 18 and 19.
    ValueError: no distances from 0, or not square.
    """
    d = np.asarray(distance() if callable(distance) else distance, np.float32)
    if d.ndim != 2 or d.shape[0] != d.shape[1] or np.diag(d).any() or (d < 0).any():
        raise ValueError(
            f"distance has shape {d.shape}: expected a square of numbers from 0 on, a row and a "
            "column for each token and 0 from each to itself"
        )

    def log_law(t: Float[Array, " b"]) -> Float[Array, "b v s"]:
        beta = scale * (t / (1 - t)) ** power
        near = jax.nn.log_softmax(-beta[:, None, None] * d[None], axis=-1)
        return jnp.pad(near, ((0, 0), (0, 0), (0, 1)), constant_values=-1e9)

    return kinetic(log_law)


def linear_distance(*, vocabulary: int) -> Float[np.ndarray, "v v"]:
    """|y − x| / (V − 1): of tokens in an order, such as brightness or pitch."""
    places = np.arange(vocabulary, dtype=np.float32)
    return np.abs(places[:, None] - places) / max(vocabulary - 1, 1)


def categorical(
    key: PRNGKey, logits: Float[Array, "*n s"], *, high: bool = True
) -> Int[Array, "*n"]:
    """A state drawn from softmax(logits), by Gumbel's maximum.

    `high`: the noise has the tails of float64, by 64 random bits a number; otherwise those of
    float32, which end at 15.9: unlikely states are never drawn, and samples look better, and are
    less diverse, than the model (Zheng et al. 2024, 2409.02908). Say which with every figure.
    """
    return jax.random.categorical(key, logits, mode="high" if high else "low").astype(jnp.int32)


def draw(key: PRNGKey, law: States, *, high: bool = True) -> Ids:
    """A state of each position, from probabilities; `high`: as of `categorical`."""
    return categorical(key, jnp.log(jnp.maximum(law, 0.0)), high=high)


def with_mask(m: Masses) -> States:
    """The masses of all states: none of the mask, which no data have."""
    return jnp.pad(m, [(0, 0)] * (m.ndim - 1) + [(0, 1)])


def one_hot(x: Ids, m: Masses) -> States:
    """The law of being at x, the mask among the states."""
    return jax.nn.one_hot(x, m.shape[-1] + 1, dtype=m.dtype)


def off(u: States, x: Ids) -> States:
    """`u` with 0 at y = x."""
    return jnp.where(jax.nn.one_hot(x, u.shape[-1], dtype=bool), 0.0, u)


def at(a: Masses, x: Ids) -> Float[Array, "b *n"]:
    """a[…, x], of a table of tokens or of states."""
    return jnp.take_along_axis(a, x[..., None], axis=-1)[..., 0]


def shifted(x: Int[Array, "b n"], first: int) -> Int[Array, "b n"]:
    """Each row moved on by one place, after `first`: what comes before each token."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0)), constant_values=first)


def _rows(table: Float[Array, "b v s"], x: Int[Array, "b n"]) -> Float[Array, "b n s"]:
    """table[b, x[b, n]]."""
    return jnp.take_along_axis(table, x[..., None], axis=1)


def prefix(key: PRNGKey, x1: Ids, *, share: float | int = 0.5) -> Bool[Array, "b *n"]:
    """Known are the first k positions, k uniform, of a `share` of the examples: continuation."""
    key_share, key_length = jax.random.split(key)
    b, n = x1.shape[0], x1[0].size
    length = jax.random.randint(key_length, (b, 1), 0, n)
    length = jnp.where(jax.random.bernoulli(key_share, share, (b, 1)), length, 0)
    return (jnp.arange(n)[None] < length).reshape(x1.shape)


def scattered(key: PRNGKey, x1: Ids, *, share: float | int = 0.5) -> Bool[Array, "b *n"]:
    """Known is each position by a coin whose odds are uniform, in a `share` of the examples."""
    key_share, key_odds, key_coins = jax.random.split(key, 3)
    one = (x1.shape[0],) + (1,) * (x1.ndim - 1)
    odds = jax.random.uniform(key_odds, one) * jax.random.bernoulli(key_share, share, one)
    return jax.random.uniform(key_coins, x1.shape) < odds
