"""Exact distributions, velocities, scores, flow maps and distances of Gaussian mixtures.

For any affine path x_t = α(t) x1 + σ(t) x0, `alpha` and `sigma` being functions of a time, with a
mixture as data (x1) and a Gaussian as source (x0, standard normal by default) independent of it:

    x_t | k ~ N(α m_k + σ m_0, α² C_k + σ² C_0),   velocity = α' E[x1 | x_t] + σ' E[x0 | x_t].

Points are `[b, *d]`; a mixture lives in the flattened dimensions. A time is one, or `[b]`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, special


class Mixture(NamedTuple):
    """Σ_k weights[k] N(means[k], covs[k]): `[k]`, `[k, d]`, `[k, d, d]`."""

    weights: jax.Array
    means: jax.Array
    covs: jax.Array


def gaussian(mean, std=1.0):
    """N(mean, diag(std²)): `mean` `[d]`, `std` a number or `[d]`."""
    return mixture([1.0], [mean], std)


def mixture(weights, means, std=1.0):
    """Diagonal components: `means` `[k, d]`, `std` a number, `[d]` or `[k, d]`."""
    means = np.asarray(means, float)
    variances = np.broadcast_to(np.square(std), means.shape)
    covs = variances[..., None] * np.eye(means.shape[1])
    with jax.ensure_compile_time_eval():  # has values under jit too
        return Mixture(*(jnp.asarray(a) for a in (np.asarray(weights, float), means, covs)))


def standard(d):
    return gaussian(np.zeros(d))


def sample(key, n, mix):
    """`[n, d]` draws."""
    key_component, key_noise = jax.random.split(key)
    k = jax.random.categorical(key_component, jnp.log(mix.weights), shape=(n,))
    noise = jax.random.normal(key_noise, (n, mix.means.shape[1]), mix.means.dtype)
    return mix.means[k] + jnp.einsum("nij,nj->ni", jnp.linalg.cholesky(mix.covs)[k], noise)


def log_density(mix, x):
    """log p(x) in nats, `[b]`."""
    return jax.vmap(lambda y: jax.nn.logsumexp(_joint(mix, y)))(_flat(x))


def score(mix, x):
    """∇ log p(x), shaped like x."""
    gradient = jax.grad(lambda y: jax.nn.logsumexp(_joint(mix, y)))
    return jax.vmap(gradient)(_flat(x)).reshape(x.shape)


def marginal(alpha, sigma, t, data, source=None):
    """The mixture that x_t has at one time `t`."""
    source = standard(data.means.shape[1]) if source is None else source
    a, s = alpha(t), sigma(t)
    means = a * data.means + s * source.means
    return Mixture(data.weights, means, a**2 * data.covs + s**2 * source.covs)


def posterior(alpha, sigma, t, x, data, source=None):
    """(E[x1 | x_t = x], E[x0 | x_t = x]), each shaped like x. The mixtures are not traced."""
    source = standard(data.means.shape[1]) if source is None else source
    # C_k V = C_0 V Λ with Vᵀ C_0 V = 1 diagonalises α² C_k + σ² C_0 at every time
    covs, (source_cov,) = np.asarray(data.covs), np.asarray(source.covs)
    pairs = [linalg.eigh(c, source_cov) for c in covs]
    spread, basis = (jnp.asarray(np.stack(a), x.dtype) for a in zip(*pairs, strict=True))
    dual = jnp.asarray(source_cov, x.dtype)[None] @ basis

    def one(t, y):
        a, s = alpha(t), sigma(t)
        z = jnp.einsum("ki,kij->kj", y[None] - a * data.means - s * source.means, basis)
        variance = a**2 * spread + s**2
        x1 = data.means + a * jnp.einsum("kij,kj->ki", dual, spread * z / variance)
        x0 = source.means + s * jnp.einsum("kij,kj->ki", dual, z / variance)
        logits = jnp.log(data.weights) - jnp.sum(z**2 / variance + jnp.log(variance), axis=1) / 2
        responsibility = jax.nn.softmax(logits)
        return responsibility @ x1, responsibility @ x0

    t = jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:1])
    return tuple(m.reshape(x.shape) for m in jax.vmap(one)(t, _flat(x)))


def velocity(alpha, sigma, t, x, data, source=None):
    """The marginal velocity u_t(x), shaped like x."""
    t = jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:1])

    def rate(f):
        rates = jax.vmap(jax.grad(lambda s: jnp.asarray(f(s), x.dtype)))(t)
        return rates.reshape((-1,) + (1,) * (x.ndim - 1))

    x1, x0 = posterior(alpha, sigma, t, x, data, source)
    return rate(alpha) * x1 + rate(sigma) * x0


def field(alpha, sigma, data, source=None):
    """`velocity` as a net. A condition `[b]` of integers names a component; −1 is the mixture."""

    def net(t, x, cond=None, *, key=None):
        if cond is None:
            return velocity(alpha, sigma, t, x, data, source)

        def one(t, y, c):
            named = (jnp.arange(data.weights.size) == c).astype(x.dtype)
            chosen = data._replace(weights=jnp.where(c < 0, data.weights, named))
            return velocity(alpha, sigma, t, y[None], chosen, source)[0]

        return jax.vmap(one)(jnp.broadcast_to(jnp.asarray(t, x.dtype), x.shape[:1]), x, cond)

    return net


def flow_map(alpha, sigma, start, end, x, data, source=None):
    """x(end) of the flow through x(start) = x, where `data` is one Gaussian.

    ValueError for more components, or covariances that do not commute: no closed form.
    """
    source = standard(data.means.shape[1]) if source is None else source
    c0, c1 = np.asarray(source.covs[0]), np.asarray(data.covs[0])
    if len(data.weights) != 1 or not np.allclose(c0 @ c1, c1 @ c0):
        raise ValueError("the flow map is known for one Gaussian with commuting covariances")
    a, b = (marginal(alpha, sigma, t, data, source) for t in (start, end))
    scale = _root(b.covs[0]) @ np.linalg.inv(_root(a.covs[0]))
    y = b.means + (_flat(x) - a.means) @ jnp.asarray(scale.T, x.dtype)
    return y.reshape(x.shape)


def flow_map_1d(alpha, sigma, start, end, x, data, source=None):
    """x(end) of the flow through x(start) = x `[b, 1]`, any mixture: in 1-D it keeps quantiles."""
    a, b = (marginal(alpha, sigma, t, data, source) for t in (start, end))
    return quantile_1d(b, cdf_1d(a, np.asarray(x)[:, 0]))[:, None]


def cdf_1d(mix, x):
    """P(X ≤ x) of a 1-D mixture, in float64: `[b]` to `[b]`."""
    w, m, s = _columns(mix)
    return w @ special.ndtr((np.asarray(x, np.float64) - m) / s)


def quantile_1d(mix, p):
    """The inverse of `cdf_1d`, by bisection to rounding."""
    _, m, s = _columns(mix)
    low = np.full(np.shape(p), np.min(m - 40 * s))
    high = np.full(np.shape(p), np.max(m + 40 * s))
    for _ in range(100):
        middle = (low + high) / 2
        below = cdf_1d(mix, middle) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def wasserstein2(p, q):
    """W2 (not squared) between two Gaussians (Bures; Dowson and Landau 1982)."""
    (m, c), (n, d) = ((np.asarray(g.means[0], float), np.asarray(g.covs[0], float)) for g in (p, q))
    cross = _root(_root(c) @ d @ _root(c))
    return float(np.sqrt(np.sum((m - n) ** 2) + np.trace(c + d - 2 * cross)))


def wasserstein2_1d(p, q, n=100_000):
    """W2 (not squared) between two 1-D mixtures: the L2 distance of their quantile functions."""
    u = (np.arange(n) + 0.5) / n
    return float(np.sqrt(np.mean((quantile_1d(p, u) - quantile_1d(q, u)) ** 2)))


def _flat(x):
    return x.reshape(x.shape[0], -1)


def _joint(mix, y):
    """log weights[k] N(y; m_k, C_k), `[k]`. A weight of 0 gives −∞, whose gradient is finite."""

    def one(m, c):
        solved = jnp.linalg.solve(c, y - m)
        return -0.5 * ((y - m) @ solved + jnp.linalg.slogdet(2 * jnp.pi * c)[1])

    return jnp.log(mix.weights) + jax.vmap(one)(mix.means, mix.covs)


def _root(matrix):
    return np.real(linalg.sqrtm(np.asarray(matrix, float)))


def _columns(mix):
    """Weights `[k]`, means and standard deviations `[k, 1]` of a 1-D mixture, in float64."""
    weights, means, covs = (np.asarray(a, np.float64) for a in mix)
    return weights, means, np.sqrt(covs[:, :, 0])
