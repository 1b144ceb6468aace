"""Held-out negative log-likelihood of the net's ODE, in nats or bits per dimension."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fmjax import codecs, likelihood, sources, types
from fmjax.metrics import _common, _flows
from fmjax.samplers.ode import ode


def nll(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Any,
    *,
    split: str = "test",
    n: int | None = None,
    source: Callable[..., Any] = sources.normal,
    codec: codecs.Codec = codecs.identity(),
    log_p0: Callable[[Any], Any] | None = None,
    divergence: likelihood.Divergence = likelihood.exact(),
    solve: Callable[..., Any] = ode,
    spacing: float | None = None,
    draws: int = 1,
    chunk: int = 512,
) -> dict[str, float]:
    """Mean of −log p(x | cond) over `n` rows of `split` (None: all), with its standard error.

    `nll_nats` is of an example's density in data space (the codec's Jacobian included), in nats.
    `spacing`: the data take discrete levels so far apart (1 for bytes). Then it is of the
    probability of an example's levels, an upper bound by `draws` dequantisations (K), and
    `bits_per_dim` the same in bits for each number. With `nll_nfe`, calls of the net with its
    divergence; `nll_probes`, random ones (0: exact); tolerances or steps, whichever hold.

    log_p0:     log-density of a source that has no attribute `log_density`
    solve:      `dict(bind="fmjax.samplers.ode:ode", rtol=1e-6, atol=1e-6)` in a config
    chunk:      rows of one compiled call

    Of the net itself: neither guidance nor the run's sampler enter. Not for nets of few steps.
    ValueError: a source without density, a codec that is not one function of each number, a net
    of two times, log-densities that are not finite, several draws with a random divergence.
    """
    if spacing is not None and draws > 1 and divergence.probes:
        raise ValueError(
            f"draws={draws} with {divergence.probes} random probes: the mean of exponentials of "
            "noisy logarithms is too high, so that the likelihood would look better than it is. "
            "Use likelihood.exact(), or draws=1"
        )
    _ = log_p0 or sources.log_density(source)  # is there one?
    n = _common.count(data, split, n)
    rows = data.take(split, n)
    _check_elementwise(codec, jnp.asarray(rows.x1[:1], jnp.float32))
    found, nfe = [], []
    for i in range(math.ceil(n / chunk)):
        at = np.arange(i * chunk, (i + 1) * chunk) % n  # one shape, so one compilation
        x, cond = jax.tree.map(lambda a, at=at: np.asarray(a)[at], (rows.x1, rows.cond))
        part = _log_density(
            _flows.argument(net),
            jax.random.fold_in(key, i),
            x.astype(np.float32),
            cond,
            laws=(source, log_p0),
            codec=codec,
            divergence=divergence,
            solve=solve,
            spacing=spacing,
            draws=draws,
        )
        found.append(np.asarray(part[0], np.float64))
        nfe.append(np.mean(part[1]))
    results = _summary(np.concatenate(found)[:n], rows.x1.shape[1:], spacing, draws)
    results |= {"nll_nfe": float(np.mean(nfe)), "nll_n": float(n)}
    return results | {"nll_probes": float(divergence.probes)} | _flows.solved_by(solve, "nll")


@functools.partial(
    jax.jit, static_argnames=("laws", "codec", "divergence", "solve", "spacing", "draws")
)
def _log_density(
    net: Any,
    key: types.PRNGKey,
    x: Any,
    cond: Any,
    *,
    laws: tuple[Any, Any],
    codec: codecs.Codec,
    divergence: likelihood.Divergence,
    solve: Callable[..., Any],
    spacing: float | None,
    draws: int,
) -> tuple[Array, Array]:
    source, log_p0 = laws
    log_p0 = log_p0 or sources.log_density(source)

    def density(key: types.PRNGKey, x: Array) -> tuple[Array, Array]:
        z, slope = jax.jvp(codec.encode, (x,), (jnp.ones_like(x),))
        value, info = likelihood.log_likelihood(
            net, key, z, cond, divergence=divergence, log_p0=log_p0, solve=solve
        )
        return value + jnp.log(jnp.abs(slope)).reshape(len(x), -1).sum(axis=1), info.nfe

    if spacing is None:
        return density(key, x)
    return likelihood.dequantised(density, key, x, spacing=spacing, draws=draws)


def _summary(
    found: np.ndarray, shape: tuple[int, ...], spacing: float | None, draws: int
) -> dict[str, float]:
    bad = int(np.sum(~np.isfinite(found)))
    if bad:
        raise ValueError(
            f"{bad} of {len(found)} log-densities are not finite: did the net diverge? Otherwise "
            "give the solve more max_steps, or loosen its tolerances"
        )
    error = float(np.std(found, ddof=1) / math.sqrt(len(found))) if len(found) > 1 else math.nan
    results = {"nll_nats": -float(np.mean(found)), "nll_nats_se": error}
    if spacing is None:
        return results
    return results | {
        "bits_per_dim": float(likelihood.bits_per_dim(np.mean(found), shape)),
        "bits_per_dim_se": error / (math.prod(shape) * likelihood.LN2),
        "bits_per_dim_k": float(draws),
    }


def _check_elementwise(codec: codecs.Codec, x: Array) -> None:
    """ValueError unless each number is encoded alone: else its density needs a full Jacobian."""
    weights = jnp.linspace(1.0, 2.0, x.size).reshape(x.shape)
    _, slope = jax.jvp(codec.encode, (x,), (jnp.ones_like(x),))
    _, weighted = jax.jvp(codec.encode, (x,), (weights,))
    if slope.shape != x.shape or not jnp.allclose(weighted, weights * slope, rtol=1e-4):
        raise ValueError(
            f"the codec maps {x.shape[1:]} to {slope.shape[1:]} not number by number: a density in "
            "the data's space is not known. Leave this evaluator out for this codec"
        )
