"""From a model to samples in data space, compiled once, and the evaluators that share them."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fmjax import codecs, reading, train
from fmjax.config import ConfigError
from fmjax.types import Batch, Data, Info, Params, PRNGKey

Generate = Callable[..., tuple[Batch, Info]]


class NotFinite(ArithmeticError):
    """Samples are not finite; the message says how many and what to try."""


def make_generate(
    model: Any,
    data: Data,
    *,
    source: Callable[..., Any],
    sampler: Callable[..., Any],
    guidance: Callable[..., Any] | None = None,
    codec: codecs.Codec,
    rows: NamedSharding,
    chunk: int = 512,
    pairs: bool = False,
) -> Generate:
    """`generate(params, key, cond, n, keep=…) -> (Batch in data space, Info)` as host arrays.

    Source, guidance, sampler and decoder are compiled as one program over `chunk` rows at a
    time, divided over the devices of `rows`. `cond`: at least `n` rows, or None.
    `pairs`: the batch has the noise that each sample came from, too, in model space.
    Row i depends on the key and on i (and, for adaptive steps shared by a batch, on its chunk),
    so a smaller `n` gives a prefix. `keep`: what is made of each chunk's x1, before they are
    joined, to hold them in less memory.
    """
    chunk = math.ceil(chunk / rows.mesh.size) * rows.mesh.size
    everywhere = NamedSharding(rows.mesh, PartitionSpec())
    example = data.spec.x1
    like = jax.eval_shape(
        codec.encode, jax.ShapeDtypeStruct((chunk, *example.shape), example.dtype)
    )

    @jax.jit
    def program(params: Params, frozen: Any, key: PRNGKey, cond: Any) -> tuple[Any, Info]:
        key_x0, key_sampler = jax.random.split(key)
        x0 = source(key_x0, jnp.empty(like.shape, like.dtype))
        x0, cond = jax.lax.with_sharding_constraint((x0, cond), rows)
        net = train.bind(model, params)
        net = net if guidance is None else guidance(net)
        z, info = sampler(net, key_sampler, x0, cond)
        decoder = codecs.at(codec, frozen)
        ends = decoder.decode(z), x0 if pairs else None
        out = ends, info._replace(xs=None if info.xs is None else _map(decoder, info.xs))
        return jax.lax.with_sharding_constraint(out, everywhere)

    @functools.cache
    def frozen() -> Any:
        """The codec's own arrays, on the devices: an argument of the program, as params are."""
        return jax.device_put(codecs.arrays(codec), everywhere)

    def generate(
        params: Params,
        key: PRNGKey,
        cond: Any,
        n: int,
        *,
        keep: Callable[[np.ndarray], np.ndarray] = lambda x1: x1,
    ) -> tuple[Batch, Info]:
        parts = []
        for i in range(math.ceil(n / chunk)):
            row = np.arange(i * chunk, (i + 1) * chunk) % n
            part = jax.tree.map(lambda c, row=row: np.asarray(c)[row], cond)
            own = jax.random.fold_in(key, i)
            (x1, x0), info = jax.device_get(program(params, frozen(), own, part))
            parts.append(((keep(x1), x0), info))
        ends, infos = zip(*parts, strict=True)
        x1, x0 = jax.tree.map(lambda *xs: np.concatenate(xs)[:n], *ends)
        kept = jax.tree.map(lambda c: np.asarray(c)[:n], cond)
        return Batch(x1, kept, x0), _join(infos, n)

    return generate


def _map(codec: codecs.Codec, xs: Any) -> Any:
    return jax.vmap(codec.decode)(xs)


def _join(infos: Sequence[Info], n: int) -> Info:
    nfe = [np.asarray(info.nfe) for info in infos]
    # a count for each example, or the mean over chunks that each took their own steps
    joined = np.concatenate(nfe)[:n] if nfe[0].ndim else np.asarray(np.mean(nfe))
    if infos[0].xs is None:
        return Info(joined)
    return Info(joined, infos[0].ts, np.concatenate([i.xs for i in infos], axis=1)[:, :n])


class Samples:
    """`samples(n) -> Batch`: generated once, kept, and grown when more are asked for.

    `samples.chunks(n, size)` gives the same in parts, for those who need not hold all at once:
    images whose values are bytes are kept as such, in a quarter of the memory.
    Row i has the condition of row i (cyclically) of the split it is compared with, or of `cond`.
    `info` is that of the largest draw; `seconds` all the time spent, compiling included.
    """

    def __init__(
        self,
        generate: Generate,
        params: Params,
        key: PRNGKey,
        data: Data,
        split: str = "test",
        cond: Any = None,
    ) -> None:
        self._generate, self._params, self._key = generate, params, key
        self._data, self._split, self._cond = data, split, cond
        self._batch, self.info, self.seconds = None, None, 0.0
        self._dtype: Any = None

    def __call__(self, n: int) -> Batch:
        """The first `n` samples, in data space, as host arrays."""
        (batch,) = self.chunks(n, n)
        return batch

    def chunks(self, n: int, size: int) -> Iterator[Batch]:
        """Yield the first `n` samples, `size` at a time."""
        if self._batch is None or len(self._batch.x1) < n:
            began = time.monotonic()
            cond = self.conditions(n)
            batch, self.info = self._generate(self._params, self._key, cond, n, keep=self._kept)
            check_finite(batch.x1)
            self._batch = batch
            self.seconds += time.monotonic() - began
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            part = jax.tree.map(lambda x, rows=rows: x[rows], self._batch)
            yield part._replace(x1=part.x1.astype(self._dtype, copy=False))

    def _kept(self, x1: np.ndarray) -> np.ndarray:
        self._dtype = x1.dtype
        return packed(x1)

    def conditions(self, n: int) -> Any:
        """The conditions of the first `n` samples."""
        cond = self._cond
        if cond is None and self._data.spec.cond is not None:
            rows = self._data.splits[self._split]
            rows = min(n, rows) if rows else n
            cond = reading.conditions(self._data.take, self._split, rows)
        return jax.tree.map(lambda c: np.resize(c, (n, *c.shape[1:])), cond)


def packed(x1: np.ndarray) -> np.ndarray:
    """`x1` as bytes, where these are its values exactly; itself otherwise.

    Joined, chunks of bytes and of floats are floats again.
    """
    if not np.issubdtype(x1.dtype, np.floating):
        return x1
    with np.errstate(invalid="ignore"):  # of what is not finite, and no byte
        found = x1.astype(np.uint8)
    return found if np.array_equal(found, x1) else x1


def check_finite(x1: np.ndarray) -> None:
    """Raise `NotFinite` if any sample is not; whole numbers always are."""
    if not np.issubdtype(x1.dtype, np.inexact):
        return
    bad = int(np.sum(~np.isfinite(x1.reshape(len(x1), -1)).all(axis=1)))
    if bad:
        raise NotFinite(
            f"{bad} of {len(x1)} samples are not finite: the sampler or the net diverged. "
            "Try more steps, a smaller guidance scale, or a net that has trained for longer"
        )


def evaluate(
    evaluators: Mapping[str, Callable[..., dict[str, float]]],
    model: Any,
    params: Params,
    key: PRNGKey,
    data: Data,
    samples: Samples,
) -> dict[str, float]:
    """Every evaluator's scalars in one table; the same name from two evaluators is an error."""
    results: dict[str, float] = {}
    net = train.bind(model, params)
    for i, (name, evaluator) in enumerate(evaluators.items()):
        try:
            found = evaluator(net, jax.random.fold_in(key, i), data, samples)
        except ValueError as error:
            raise ConfigError(f"config.evaluators.{name}: {error}") from error
        for metric, value in found.items():
            if metric in results:
                raise ValueError(f"evaluator {name!r}: another one already reports {metric!r}")
            results[metric] = float(value)
    if samples.info is not None:
        results["nfe"] = float(np.mean(samples.info.nfe))
        results["sampling_seconds"] = samples.seconds
    return results
