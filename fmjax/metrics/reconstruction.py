"""How well an autoencoder gives back what it is given, and what its latents look like."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fmjax import codecs, types
from fmjax.metrics import _common, _flows
from fmjax.models import autoencoder

CHUNK = 256  # rows encoded at a time


def psnr(x: _common.Rows, y: _common.Rows, *, peak: float | int) -> float:
    """Mean over examples of 10 log₁₀(peak²/mean |x − y|²), in decibels; inf where any is exact.

    `peak`: the range of the data, e.g. 255. The mean of the logarithms, not that of the errors.
    """
    x, y = _common.pair(x, y)
    with np.errstate(divide="ignore"):
        return float(np.mean(10 * np.log10(peak**2 / np.mean((x - y) ** 2, axis=1))))


def reconstruction(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    low: float | int,
    high: float | int,
    split: str = "test",
    n: int | None = None,
    codec: codecs.Codec = codecs.identity(),
) -> dict[str, float]:
    """`psnr_db`, `mse`, `mae` of samples against their conditions, the examples; and latents.

    For runs with `samplers.reconstruct`: `n` rows of `split` (default: all), in data space, whose
    range is [low, high]. `kl_nats`: of q(z|x) from the prior, mean over examples, all of an
    example's latents. `latent_mean_<i>`, `latent_std_<i>`: of channel i of z ~ q(z|x) over
    examples and places; `latent_active`: channels whose mean has a variance above 0.01
    (Burda et al. 2015, 1509.00519). ValueError: samples without originals.
    """
    del key
    n = _common.count(data, split, n)
    batch = sample(n)
    if batch.cond is None or np.shape(batch.cond) != np.shape(batch.x1):
        raise ValueError(
            "samples have no originals as conditions: this evaluator is for runs with "
            "fmjax.samplers.reconstruct on data of fmjax.data.originals"
        )
    x, y = _common.pair(np.asarray(batch.cond), np.asarray(batch.x1))
    means, stds = _latents(net, _common.real(data, split, n), codec)
    axes = tuple(range(means.ndim - 1))
    centre = means.mean(axis=axes)
    spread = np.sqrt(means.var(axis=axes) + (stds**2).mean(axis=axes))
    return {
        "psnr_db": psnr(x, y, peak=high - low),
        "mse": float(np.mean((x - y) ** 2)),
        "mae": float(np.mean(np.abs(x - y))),
        "kl_nats": float(np.mean(np.asarray(autoencoder.kl_nats(means, stds)))),
        "latent_active": float(np.sum(means.var(axis=axes) > 0.01)),
        "reconstruction_n": float(n),
        **{f"latent_mean_{i}": float(m) for i, m in enumerate(centre)},
        **{f"latent_std_{i}": float(s) for i, s in enumerate(spread)},
    }


def _latents(net: Any, x: Any, codec: codecs.Codec) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of q(z|x) for all rows, on the host."""
    weights = jax.device_put(codecs.arrays(codec))  # once for all chunks
    chunks = (jnp.asarray(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK))
    found = [jax.device_get(_encoded(_flows.argument(net), weights, c, codec)) for c in chunks]
    means, stds = zip(*found, strict=True)
    return np.concatenate(means), np.concatenate(stds)


@functools.partial(jax.jit, static_argnames="codec")
def _encoded(net: Any, weights: Any, x: Any, codec: codecs.Codec) -> Any:
    return autoencoder.posterior(net.encoder(1.0, codecs.at(codec, weights).encode(x)))
