"""Codec(encode, decode): between data space and the space the model lives in."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Num


class Codec(NamedTuple):
    """`encode(x) -> z` before training, `decode(z) -> x` after sampling; batched, jittable."""

    encode: Callable[[Num[Array, " b *d"]], Num[Array, " b *k"]]
    decode: Callable[[Num[Array, " b *k"]], Num[Array, " b *d"]]


def identity() -> Codec:
    """z = x."""
    return Codec(lambda x: x, lambda z: z)


def affine(*, low: float, high: float, clip: bool = True, levels: int | None = None) -> Codec:
    """[low, high] ↔ [−1, 1]; `clip`: decoded values stay within [low, high].

    `levels`: data take that many evenly spaced values, and decoded values the nearest of them,
    e.g. 256 for bytes. Rounding has no gradient; leave it out where one is needed.
    """
    if not high > low:
        raise ValueError(f"affine(low={low}, high={high}): expected low < high")
    if levels is not None and levels < 2:
        raise ValueError(f"affine(levels={levels}): expected at least 2 levels, or None")

    def decode(z: Num[Array, " b *k"]) -> Num[Array, " b *d"]:
        unit = (jnp.clip(z, -1, 1) if clip else z) / 2 + 0.5
        if levels is not None:
            unit = jnp.round(unit * (levels - 1)) / (levels - 1)
        return unit * (high - low) + low

    return Codec(lambda x: (x - low) / (high - low) * 2 - 1, decode)
