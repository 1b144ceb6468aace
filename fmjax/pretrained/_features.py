"""Extractor: a network's features of images, as the metrics that compare in them want it."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Num

from fmjax import shard, types
from fmjax.pretrained import _common

KEPT_BYTES = 2**30
Images = Num[np.ndarray | Array, "..."]


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """`extractor(data, x) -> [n, dims]`, a `features=` of evaluators.

    name:    what a metric's name says of it
    apply:   `(params, [b, h, w, 3] in 0 … 255) -> [b, dims]`, jittable
    depends: what its features depend on, the SHA-256 of the weights among it
    low, high: the values in the data that are black and white; bytes always have 0 and 255
    chunk:   images at a time, divided over the devices
    """

    name: str
    params: Any = dataclasses.field(repr=False)
    apply: Callable[[Any, Array], Array]
    dims: int
    depends: Mapping[str, Any]
    low: float | int = 0
    high: float | int = 255
    chunk: int = 64
    _kept: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __call__(self, data: types.Data | None, x: Images) -> Float[np.ndarray, "n dims"]:
        """Features of all rows; `data` plays no part. ValueError: not images, or another range."""
        del data
        return np.concatenate(list(self.stream(x)))

    def stream(self, x: Images) -> Iterator[Float[np.ndarray, "_ dims"]]:
        """Yield the features of one chunk after another.

        Those of the last images are kept, up to `KEPT_BYTES`: several metrics ask for the same.
        """
        _check(x, self.low, self.high)
        digest = _digest(x)
        if digest in self._kept:
            yield self._kept[digest]
            return
        fits, parts = len(x) * self.dims * 4 <= KEPT_BYTES, []
        for part in self._computed(x):
            if fits:
                parts.append(part)
            yield part
        if fits:
            self._kept[digest] = np.concatenate(parts)
            while sum(kept.nbytes for kept in self._kept.values()) > KEPT_BYTES:
                del self._kept[next(iter(self._kept))]

    def _computed(self, x: Images) -> Iterator[np.ndarray]:
        rows, program, params = _placed(self)
        chunk = math.ceil(self.chunk / rows.mesh.size) * rows.mesh.size
        for start in range(0, len(x), chunk):
            part = as_bytes(x[start : start + chunk], low=self.low, high=self.high)
            # the last chunk is filled up, so that one program serves all
            full = part[np.arange(chunk) % len(part)]
            there = jax.make_array_from_callback(full.shape, rows, lambda i, full=full: full[i])
            yield np.asarray(jax.device_get(program(params, there)))[: len(part)]


def as_bytes(x: Images, *, low: float | int = 0, high: float | int = 255) -> np.ndarray:
    """Images as bytes in red, green and blue: clipped, rounded, grey repeated, as a PNG would be.

    Networks saw bytes, and a generator is not to gain from values between them.
    """
    x = np.asarray(x)
    if x.dtype != np.uint8:
        unit = (x.astype(np.float32) - low) / (high - low)
        x = np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return np.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x


def folded(taker: _common.Taker, conv: str, norm: str, *, eps: float) -> dict[str, np.ndarray]:
    """A convolution and the batch normalisation after it, as one convolution with a bias.

    γ (w∗x − μ) / √(σ² + ε) + β, with the running mean μ and variance σ².
    """
    kernel = taker.conv(conv)["kernel"].astype(np.float64)
    mean, variance = taker.take(f"{norm}.running_mean"), taker.take(f"{norm}.running_var")
    affine = taker.norm(norm)
    scale = affine["scale"] / np.sqrt(variance.astype(np.float64) + eps)
    bias = affine["bias"] - mean * scale
    return {"kernel": np.float32(kernel * scale), "bias": np.float32(bias)}


def counters(tensors: Mapping[str, Any]) -> list[str]:
    """The tensors that count a normalisation's batches: of no use, and not in every file."""
    return [name for name in tensors if name.endswith("num_batches_tracked")]


def _check(x: Images, low: float | int, high: float | int) -> None:
    shape = np.shape(x)
    if len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape:
        raise ValueError(
            f"features of images need rows [n, height, width, 1 or 3], got {list(shape)}: "
            "leave this evaluator out for this data, or compare in other features"
        )
    x = np.asarray(x)
    if x.dtype == np.uint8:
        return
    least, most = float(x.min()), float(x.max())
    if not np.isfinite(least + most):
        raise ValueError("images are not finite: did the sampler diverge?")
    fractions = np.issubdtype(x.dtype, np.inexact) and bool(np.any(x != np.round(x)))
    narrow = high - low > 2 and least >= -1 and most <= 1 and fractions
    wide = not fractions and (least < 2 * low - high or most > 2 * high - low)
    if narrow or wide:
        raise ValueError(
            f"the images lie between {least:.3g} and {most:.3g}, but the extractor takes {low} "
            f"for black and {high} for white: build it with low= and high= of this data"
        )


def _digest(x: Images) -> str:
    rows = np.ascontiguousarray(x)
    return f"{rows.dtype}{rows.shape}{hashlib.sha256(rows.data).hexdigest()}"


@functools.lru_cache(maxsize=4)
def _placed(extractor: Extractor) -> tuple[NamedSharding, Callable[..., Any], Any]:
    """The rows' sharding, the compiled program, and the weights on every device."""
    rows = shard.jit().rows
    everywhere = NamedSharding(rows.mesh, PartitionSpec())

    def features(params: Any, images: Array) -> Array:
        # whole float32 products: a distance between features is not to depend on the device
        with jax.default_matmul_precision("highest"):
            return extractor.apply(params, images.astype(jnp.float32)).astype(jnp.float32)

    program = jax.jit(features, out_shardings=everywhere)
    return rows, program, jax.device_put(extractor.params, everywhere)
