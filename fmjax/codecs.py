"""Codec(encode, decode): between data space and the space the model lives in."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from fmjax.config import ConfigError

LARGEST = 2**26  # bytes that a step may hold as constants, which the compiler copies


class Codec(NamedTuple):
    """`encode(x) -> z` before training, `decode(z) -> x` after sampling; batched, jittable.

    posterior:  `x -> (mean, deviation)` of z, where z given x is normal; `encode` is its mean
    depends_on: a digest of what it was made of, such as a network's weights: a cache of latents
                is known by it
    frozen:     the arrays that it closes over, where it is a network: see `with_arrays`

    For examples of tokens, whole numbers `[n]` in both spaces:
    vocabulary: how many values a token has, 0 … vocabulary − 1; 0: examples are of numbers
    tokens:     `text -> int32 [k]`, what a data set makes its examples of; `depends_on` has to
                tell it from others
    read:       `(given, spec of one example) -> (x, known)`: an example as a person gives it, and
                where it is known (bool, like x); ValueError says what cannot be read
    write:      `x -> text`: one example as a person reads it
    end:        the token that ends a text and fills the rest of its example, where there is one
    """

    encode: Callable[[Num[Array, " b *d"]], Num[Array, " b *k"]]
    decode: Callable[[Num[Array, " b *k"]], Num[Array, " b *d"]]
    posterior: Callable[[Num[Array, " b *d"]], tuple[Any, Any]] | None = None
    depends_on: str = ""
    frozen: "Frozen | None" = None
    vocabulary: int = 0
    tokens: Callable[[str], Any] | None = None
    read: Callable[[str, Any], tuple[Any, Any]] | None = None
    write: Callable[[Any], str] | None = None
    end: int | None = None


# compared by identity: codecs are static arguments of compiled functions, and arrays have no hash
@dataclasses.dataclass(frozen=True, eq=False)
class Frozen:
    """A codec's host arrays, and how they make it."""

    arrays: Any
    make: Callable[[Any], Codec]


def with_arrays(make: Callable[[Any], Codec], arrays: Any, *, depends_on: str) -> Codec:
    """`make(arrays)`, which closes over host arrays; `at` makes it of a program's argument.

    As constants they are compiled into every program that encodes or decodes, which suits a few
    MB. Others take them as an argument: `program(arrays(codec), …)`, with `at(codec, …)` inside.
    """
    return make(arrays)._replace(depends_on=depends_on, frozen=Frozen(arrays, make))


def arrays(codec: Codec) -> Any:
    """What `at` takes: the codec's arrays, or None."""
    return None if codec.frozen is None else codec.frozen.arrays


def at(codec: Codec, arrays: Any) -> Codec:
    """The codec at these arrays, traced ones too; one without arrays is itself."""
    return codec if codec.frozen is None else codec.frozen.make(arrays)


def check_size(codec: Codec, encoded: bool) -> None:
    """ConfigError for a codec too large to be a constant of the step, unless data are `encoded`."""
    size = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(arrays(codec)))
    if size > LARGEST and not encoded:
        raise ConfigError(
            f"config.codec has {size / 2**20:.0f} MiB of weights, which a step that encodes would "
            "hold as constants. Encode once: config.data = dict(name="
            '"fmjax.latents:latents", data=dict(bind=<the data set>))'
        )


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
        return unit * (high - low) + low

    if levels is not None:
        decode = functools.partial(_nearest, _levels(low, high, levels))
    return Codec(lambda x: (x - low) / (high - low) * 2 - 1, decode)


def _levels(low: float, high: float, n: int) -> np.ndarray:
    """`n` evenly spaced values as data have them: each rounded once, whatever a compiler does."""
    k = np.arange(n)
    return ((low * (n - 1 - k) + high * k) / (n - 1)).astype(np.float32)


def _nearest(values: np.ndarray, z: Num[Array, " b *k"]) -> Num[Array, " b *d"]:
    """The one of `values`, evenly spaced on [−1, 1], that is nearest to each z; NaN for NaN."""
    last = len(values) - 1
    place = jnp.round((z.astype(jnp.float32) / 2 + 0.5) * last)
    near = jnp.asarray(values)[jnp.clip(place, 0, last).astype(jnp.int32)]
    return jnp.where(jnp.isnan(z), jnp.nan, near).astype(z.dtype)


def latent(
    encoder: Callable[[Any], tuple[Any, Any]],
    decoder: Callable[[Any], Any],
    *,
    pixels: Codec,
    mean: Any = 0.0,
    std: Any = 1.0,
) -> Codec:
    """z = (E(x) − mean)/std, channel by channel, of a variational autoencoder over `pixels`.

    encoder: from `pixels`' space to (mean, deviation) of the latents; decoder: back
    mean, std: numbers or `[c]`: of the latents over the training data, so that z has mean 0 and
               variance 1
    """
    mean, std = (np.asarray(a, np.float32) for a in (mean, std))

    def like(a: np.ndarray, z: Num[Array, " b *k"]) -> Array:
        return jnp.broadcast_to(a, z.shape).astype(z.dtype)

    def posterior(x: Num[Array, " b *d"]) -> tuple[Any, Any]:
        centre, deviation = encoder(pixels.encode(x))
        return (centre - like(mean, centre)) / like(std, centre), deviation / like(std, centre)

    def decode(z: Num[Array, " b *k"]) -> Num[Array, " b *d"]:
        return pixels.decode(decoder(z * like(std, z) + like(mean, z)))

    return Codec(lambda x: posterior(x)[0], decode, posterior)
