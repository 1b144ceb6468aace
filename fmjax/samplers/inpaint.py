"""Inpainting: sample the masked pixels, and hold the others on the path of a given image."""

import inspect
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from fmjax import nets, paths
from fmjax.samplers import _common
from fmjax.types import Info, PRNGKey


def heun_step(
    net: Callable[..., Any], key: PRNGKey | None, x0: Float[Array, " b *d"], cond: PyTree = None
) -> tuple[Float[Array, " b *d"], Info]:
    """One step of Heun's method from t = 0 to t = 1: a stretch, in two evaluations."""
    del key
    start, end = jnp.zeros((), x0.dtype), jnp.ones((), x0.dtype)
    x = _common.step(diffrax.Heun(), _common.field(net), start, end, x0, cond)
    return x, Info(jnp.asarray(2))


def inpaint(
    net: Callable[..., Any],
    key: PRNGKey,
    x0: Float[Array, " b *d"],
    cond: PyTree = None,
    *,
    image: Any,
    mask: Any,
    steps: int = 20,
    repeats: int = 1,
    jump: int = 5,
    path: paths.Path = paths.linear(),
    sampler: Callable[..., Any] = heun_step,
    std: float | int = 1.0,
    grid: Callable[[Any], Any] = lambda u: u,
) -> tuple[Float[Array, " b *d"], Info]:
    """x ← where(mask, x, α(t) image + σ(t) x0) before each of `steps` stretches of the sampler.

    image, mask: in model space, one or one for each example; mask is true where to paint. The
             known pixels of the result are exactly the image's.
    repeats: how often each `jump` stretches are walked. Between two walks x goes back to their
             first time by fresh noise, which lets the painted pixels settle with the known ones;
             for a source that is normal, N(0, std² I), and independent of the data.
    sampler: walks one stretch, which an ODE's sees as [0, 1], so that all are compiled as one;
             one that takes a `path`, too, gets t0 and t1, and is compiled for each.
    NFE: the sum over all walked stretches, repeats · steps of them.
    Lugmayr et al. 2022 (RePaint, 2201.09865), with one noise x0 for the known pixels, not fresh
    noise each step, so that they move on a straight line wherever the path is one.
    """
    if min(steps, repeats, jump) < 1:
        raise ValueError(
            f"steps={steps}, repeats={repeats}, jump={jump}: expected at least 1 of each"
        )
    nets.check_plain(net)
    image = _common.widened(_common.given(image, x0, "image").astype(x0.dtype))
    mask = _common.given(mask, x0, "mask").astype(bool)
    noise = _common.widened(x0)
    with jax.ensure_compile_time_eval():  # the walk is laid out on the host, under jit too
        times = np.asarray(_common.times(grid, steps, 0.0, 1.0))
        order, back = _walk(steps, repeats, jump)
        pairs = [
            _common.renoise(path, float(times[i]), float(times[j])) if j > i else (1.0, 0.0)
            for i, j in zip(order, back, strict=True)
        ]
    keep, fresh = np.asarray(pairs, np.float32).T

    def set_out(x: Array, start: Any, keep: Any, fresh: Any, key: Any) -> Array:
        if repeats > 1:
            x = keep * x + fresh * std * _common.normal(key, x)
        return jnp.where(mask, x, path.alpha(start) * image + path.sigma(start) * noise)

    def advance(x: Array, stretch: Any) -> tuple[Array, Array]:
        start, end, keep, fresh, key = stretch
        key_noise, key_sampler = jax.random.split(key)
        x = set_out(x, start, keep, fresh, key_noise)
        x, info = sampler(_stretch(net, start, end), key_sampler, x, cond)
        return x, info.nfe

    keys = jax.random.split(key, len(order))
    walk = (times[order], times[order + 1], keep, fresh)
    if "path" not in inspect.signature(sampler).parameters:
        x, nfe = jax.lax.scan(advance, noise, (*map(jnp.asarray, walk), keys))
    else:  # it looks at the path on the host, hence at times that are known there
        x, nfe = noise, []
        for start, end, *back in zip(*(np.asarray(a).tolist() for a in walk), strict=True):
            key_noise, key_sampler = jax.random.split(keys[len(nfe)])
            x = set_out(x, jnp.float32(start), *back, key_noise)
            x, info = sampler(net, key_sampler, x, cond, t0=start, t1=end, path=path)
            nfe.append(info.nfe)
        nfe = jnp.stack(nfe)
    return jnp.where(mask, x, image).astype(x0.dtype), Info(nfe.sum(axis=0))


def fitted(mask: Any, rows: int, columns: int) -> np.ndarray:
    """A mask of pixels `[h, w, …]` on a coarser grid, such as that of latents, true where any is.

    ValueError unless h and w are the same multiple of rows and columns.
    """
    mask = np.asarray(mask, bool)
    h, w, *rest = mask.shape
    if h % rows or w % columns or h // rows != w // columns:
        raise ValueError(f"a mask of {h}x{w} does not fit a grid of {rows}x{columns}")
    blocks = mask.reshape(rows, h // rows, columns, w // columns, *rest)
    return blocks.any(axis=(1, 3))


def _walk(steps: int, repeats: int, jump: int) -> tuple[np.ndarray, np.ndarray]:
    """The stretches in the order they are walked, and the time each is reached from."""
    order, back = [], []
    for low in range(0, steps, jump):
        high = min(low + jump, steps)
        for again in range(repeats):
            order += range(low, high)
            back += [high if again else low, *range(low + 1, high)]
    return np.array(order), np.array(back)


def _stretch(net: Callable[..., Any], start: Array, end: Array) -> Callable[..., Array]:
    """The velocity in u = (t − start)/(end − start): (end − start) v(t)."""

    def own(u: Any, x: Any, cond: Any = None, **kw: Any) -> Array:
        return ((end - start) * net(start + (end - start) * u, x, cond, **kw)).astype(x.dtype)

    return own
