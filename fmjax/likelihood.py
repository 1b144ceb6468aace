"""log p1(x1) = log p0(x(0)) − ∫₀¹ div v(t, x(t)) dt along the paths of dx/dt = v(t, x).

The instantaneous change of variables (Chen et al. 2018, 1806.07366; FFJORD, Grathwohl et al. 2018,
1810.01367), for nets whose solution is the flow of an ODE. Densities are in nats, in the space the
model lives in. Compile what calls these functions: a solve outside `jax.jit` compiles every time.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from fmjax import sources
from fmjax.samplers.ode import ode
from fmjax.types import Info, PRNGKey

LN2 = math.log(2)
Field = Callable[[Float[Array, " b *d"]], Float[Array, " b *d"]]


class Divergence(NamedTuple):
    """`draw(key, x) -> probes` once a solve; `apply(f, x, probes) -> (f(x), div f [b])` each call.

    f treats every example alone. `probes`: how many are random (0: the value is exact).
    """

    draw: Callable[[PRNGKey, Float[Array, " b *d"]], PyTree]
    apply: Callable[[Field, Float[Array, " b *d"], PyTree], tuple[Array, Array]]
    probes: int = 0


class Inverse(NamedTuple):
    """Where `log_likelihood` arrived: the noise `x0`; `nfe`, calls of the net with divergence."""

    x0: Float[Array, " b *d"]
    nfe: Int[Array, ""] | Int[Array, " b"]


def exact(*, at_once: int | None = None) -> Divergence:
    """Σ_i ∂v_i/∂x_i by one linearisation and D products with it, for examples of D numbers.

    `at_once`: so many of the products at a time (None: all), for less memory.
    Not for images: D = 3,072 costs some thousand evaluations; take `hutchinson` or `hutchpp`.
    """

    def apply(f: Field, x: Array, probes: PyTree) -> tuple[Array, Array]:
        v, push = _linearized(f, x)
        size = math.prod(x.shape[1:])

        def entry(i: Array) -> Array:
            unit = jnp.zeros((size,), x.dtype).at[i].set(1).reshape((1, *x.shape[1:]))
            unit = jnp.broadcast_to(unit, x.shape)
            return _dot(unit, push(unit))

        entries = jax.lax.map(entry, jnp.arange(size), batch_size=at_once or size)
        return v, entries.sum(axis=0)

    return Divergence(lambda key, x: None, apply)


def hutchinson(*, probes: int = 1, law: Callable[..., Array] = jax.random.rademacher) -> Divergence:
    """Mean over `probes` of εᵀ J ε, E εεᵀ = I: unbiased, at one product with J a probe.

    `law(key, shape, dtype)`: signs (the default; exact for a diagonal J) or `jax.random.normal`,
    whose variance is larger. The probes are drawn once for each example and kept for the whole
    solve, so the log-density is unbiased, too; its spread does not shrink with the tolerance.
    Hutchinson 1989; FFJORD, 1810.01367.
    """
    _positive(probes)

    def apply(f: Field, x: Array, noise: PyTree) -> tuple[Array, Array]:
        v, push = _linearized(f, x)
        return v, _trace(push, noise).mean(axis=1)

    return Divergence(functools.partial(_probes, law=law, count=probes), apply, probes)


def hutchpp(*, probes: int = 1, law: Callable[..., Array] = jax.random.rademacher) -> Divergence:
    """Tr QᵀJQ exactly, Q spanning J·S for `probes` columns S, and Hutchinson for the rest of J.

    S is normal, the rest's probes follow `law`; three products with J a probe. Exact where J has
    rank `probes` or less; otherwise unbiased, and its variance falls faster than Hutchinson's
    where few directions carry the trace. Q's dependence on the parameters is not differentiated:
    the gradient is unbiased, though not that of the very estimate.
    Meyer et al. 2020 (2010.09649), algorithm 1.
    """
    _positive(probes)

    def draw(key: PRNGKey, x: Array) -> PyTree:
        key_sketch, key_rest = jax.random.split(key)
        # normal ones, as few signs are often parallel in few dimensions
        sketch = _probes(key_sketch, x, law=jax.random.normal, count=probes)
        return sketch, _probes(key_rest, x, law=law, count=probes)

    def apply(f: Field, x: Array, noise: PyTree) -> tuple[Array, Array]:
        v, push = _linearized(f, x)
        sketch, rest = noise
        image = _push_all(push, sketch)
        columns = jnp.moveaxis(image.reshape(*image.shape[:2], -1), 1, 2)
        basis = jnp.moveaxis(jax.lax.stop_gradient(jnp.linalg.qr(columns)[0]), 2, 1)
        flat = rest.reshape(*rest.shape[:2], -1)
        along_basis = jnp.einsum("bkd,bqd->bkq", flat, basis)
        rest = (flat - jnp.einsum("bkq,bqd->bkd", along_basis, basis)).reshape(rest.shape)
        basis = basis.reshape(*basis.shape[:2], *x.shape[1:])
        return v, _trace(push, basis).sum(axis=1) + _trace(push, rest).mean(axis=1)

    return Divergence(draw, apply, probes)


def log_likelihood(
    net: Callable[..., Any],
    key: PRNGKey,
    x1: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    divergence: Divergence = exact(),
    log_p0: Callable[[Array], Array] = sources.normal_log_density,
    solve: Callable[..., Any] = ode,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
) -> tuple[Float[Array, " b"], Inverse]:
    """log p(x1 | cond) in nats `[b]`, differentiable in the net's parameters, x1 and cond.

    divergence: `exact()`, `hutchinson(probes=…)`, `hutchpp(probes=…)`; `key` draws their probes.
    log_p0:     log-density of the source, `x0 -> [b]`; see `sources.log_density`.
    solve:      `samplers.ode.ode` or a partial of it, whose options (solver, steps, tolerances,
                adjoint) hold for x and its log-density together. Memory of the gradient:
                `diffrax.RecursiveCheckpointAdjoint(checkpoints=…)` keeps few states,
                `diffrax.BacksolveAdjoint()` none, at the price of a gradient that is only as good
                as the tolerance.
    t0, t1:     the times of noise and data. A path singular at 1 (`paths.vp`) ends before it.

    The tolerance is kept by the root mean square over a batch, so single examples are worse: at
    1e-5 a mixture's 1,000 rows are off by 6e-5 nats on average and 8e-4 at most in 2 dimensions,
    by 3e-4 and 4e-2 in 10, ten times less at 1e-6. `per_sample=True` in `solve` gives each row its
    own steps: ten times less for the worst row in 10, without a dependence on the neighbours.
    Gradients need a net that is twice differentiable (SiLU, tanh): where SELU or ReLU bend, the
    divergence jumps, and the derivative of the log-density is not what differentiation finds.
    Not for a guided net (guidance is no density's velocity), nor for samples of an SDE: it is the
    density of the ODE's samples. ValueError: a net of two times, a net whose output is not x's
    shape; an adaptive solve that does not arrive: see `samplers.ode`.
    """
    _refuse_two_times(net)
    noise, divergences, info = _flow(net, key, x1, cond, divergence, solve, t1, t0)
    return log_p0(noise) + divergences, Inverse(noise, info.nfe)


def sample_and_log_density(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    divergence: Divergence = exact(),
    log_p0: Callable[[Array], Array] = sources.normal_log_density,
    solve: Callable[..., Any] = ode,
    t0: float | int = 0.0,
    t1: float | int = 1.0,
) -> tuple[Float[Array, " b *d"], Float[Array, " b"], Info]:
    """(x1, log p(x1 | cond), info) in one pass from x0: half the cost of sampling, then asking.

    Everything as in `log_likelihood`.
    """
    _refuse_two_times(net)
    x1, divergences, info = _flow(net, key, x0, cond, divergence, solve, t0, t1)
    return x1, log_p0(x0) - divergences, info


def along(
    field: Callable[..., tuple[Array, Array]],
    x: Float[Array, " b *d"],
    args: PyTree = None,
    *,
    start: float | int = 0.0,
    end: float | int = 1.0,
    solve: Callable[..., Any] = ode,
) -> tuple[Float[Array, " b *d"], Float[Array, " b"], Info]:
    """x(end) and ∫ r dt of dx/dt = v where (v, r) = field(t, x, args): one solve for both.

    r is `[b]`; leaves of `args` have a leading axis b.
    """
    shape = x.shape[1:]
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def augmented(t: Array, y: Array, args: PyTree) -> Array:
        v, rate = field(t, y[:, :-1].reshape(-1, *shape), args)
        return jnp.concatenate([v.reshape(len(y), -1), rate[:, None]], axis=1)

    start_at = jnp.concatenate([x.reshape(len(x), -1), jnp.zeros((len(x), 1), x.dtype)], axis=1)
    y, info = solve(augmented, None, start_at, args, t0=start, t1=end)
    return y[:, :-1].reshape(x.shape), y[:, -1], info


def bits_per_dim(log_probability: Any, shape: tuple[int, ...]) -> Any:
    """−log P / (D ln 2) from nats, D the numbers in one example of `shape`.

    Of probabilities of discrete levels (`dequantised`). A density changes with the units of x:
    −1.5 bits of it say nothing.
    """
    return -log_probability / (math.prod(shape) * LN2)


def dequantised(
    log_density: Callable[[PRNGKey, Array], tuple[Array, Any]],
    key: PRNGKey,
    x: Float[Array, " b *d"],
    *,
    spacing: float | int = 1.0,
    draws: int = 1,
) -> tuple[Float[Array, " b"], Any]:
    """log P(x) ≥ log mean_k p(x + δ(u_k − ½)) + D log δ, u_k ~ U[0, 1]^D, k = 1 … `draws`.

    P(x) is the probability of the cell of side δ = `spacing` around the level x: levels 0 … 255
    have spacing 1. A lower bound in expectation, exact for a density constant in the cell, and
    the tighter the more draws: always report their number (K). Not with a random divergence and
    several draws: the mean of exponentials of unbiased logarithms is too high.
    `log_density(key, x) -> (nats [b], aux)`; the `aux` of all draws come back stacked.
    Theis et al. 2015 (1511.01844); Burda et al. 2015 (1509.00519); in FM, 2210.02747, appendix E.
    """
    if draws < 1 or not spacing > 0:
        raise ValueError(f"spacing={spacing}, draws={draws}: expected a positive one, at least 1")

    def one(key: PRNGKey) -> tuple[Array, Any]:
        key_noise, key_density = jax.random.split(key)
        u = jax.random.uniform(key_noise, x.shape, x.dtype)
        return log_density(key_density, x + spacing * (u - 0.5))

    each, aux = jax.lax.map(one, jax.random.split(key, draws))
    volume = math.prod(x.shape[1:]) * math.log(spacing)
    return jax.nn.logsumexp(each, axis=0) - math.log(draws) + volume, aux


def _flow(
    net: Callable[..., Any],
    key: PRNGKey,
    x: Array,
    cond: PyTree,
    divergence: Divergence,
    solve: Callable[..., Any],
    start: float | int,
    end: float | int,
) -> tuple[Array, Array, Info]:
    """x(end) and ∫ div v dt from `start` to `end`; the sign follows the direction."""

    def field(t: Array, x: Array, args: PyTree) -> tuple[Array, Array]:
        cond, probes = args
        return divergence.apply(lambda x: net(t, x, cond), x, probes)

    return along(field, x, (cond, divergence.draw(key, x)), start=start, end=end, solve=solve)


def _refuse_two_times(net: Callable[..., Any]) -> None:
    if "r" in inspect.signature(net).parameters:
        raise ValueError(
            "this net takes a far end of time `r`: its steps are averages over [t, r], not those "
            "of an ODE, and a density from a few of them is meaningless (−98 bits per dimension "
            "were published). If it was trained at r = t, pass its velocity there: "
            "lambda t, x, cond=None: net(t, x, cond, r=t)"
        )


def _linearized(f: Field, x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """(f(x), u -> J u), both in the type of x."""
    v, push = jax.linearize(lambda x: f(x).astype(x.dtype), x)
    if v.shape != x.shape:
        raise ValueError(f"the net returned shape {v.shape}, expected that of x, {x.shape}")
    return v, push


def _probes(key: PRNGKey, x: Array, *, law: Callable[..., Array], count: int) -> Array:
    """`[b, count, *d]`, like x in type."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return law(key, (x.shape[0], count, *x.shape[1:]), dtype)


def _push_all(push: Callable[[Array], Array], directions: Array) -> Array:
    """J u for every u of `[b, k, *d]`."""
    return jax.vmap(push, in_axes=1, out_axes=1)(directions)


def _trace(push: Callable[[Array], Array], directions: Array) -> Array:
    """uᵀ J u for every u of `[b, k, *d]`: `[b, k]`."""
    product = directions * _push_all(push, directions)
    return product.reshape(*product.shape[:2], -1).sum(axis=2)


def _dot(a: Array, b: Array) -> Array:
    return (a * b).reshape(a.shape[0], -1).sum(axis=1)


def _positive(probes: int) -> None:
    if probes < 1:
        raise ValueError(f"probes={probes}: expected at least 1")
