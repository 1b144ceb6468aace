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


def affine(*, low: float, high: float, clip: bool = True) -> Codec:
    """[low, high] ↔ [−1, 1]; `clip`: decoded values stay within [low, high]."""
    if not high > low:
        raise ValueError(f"affine(low={low}, high={high}): expected low < high")

    def decode(z: Num[Array, " b *k"]) -> Num[Array, " b *d"]:
        z = jnp.clip(z, -1, 1) if clip else z
        return (z + 1) / 2 * (high - low) + low

    return Codec(lambda x: (x - low) / (high - low) * 2 - 1, decode)
