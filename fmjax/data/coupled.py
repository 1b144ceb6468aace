"""Data whose noise is chosen on the host, ahead of the step: exact plans off the critical path."""

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from fmjax import codecs, sources
from fmjax.couplings.exact import exact
from fmjax.data import _common
from fmjax.types import Batch, Data, Rows


def coupled(
    data: Any,
    *,
    block: int,
    batch_size: int,
    coupling: Callable[..., Rows] = exact,
    source: Callable[..., Any] = sources.normal,
    codec: codecs.Codec = codecs.identity(),
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    workers: int = 2,
    ahead: int = 8,
) -> Data:
    """`data` with `Batch.x0`: rows [0, block), [block, 2 block), … of its order, coupled by block.

    data:     a data set to be made here, in a config dict(bind="fmjax.data.toy:toy", …)
    coupling: `(key, x0, x1, cond) -> Rows` on host arrays, x0 and x1 in model space
    block:    rows of one plan: a part of the batch, or many batches. It costs up to block³.
    workers:  threads that compute plans; `ahead`: the blocks they may be ahead of the training.
              A process that ends waits for those that were begun or queued.

    Block i and its noise depend on (seed, i) alone: neither on the devices and processes, nor on
    where a run was resumed. A process computes the blocks that its rows lie in, so keep `block`
    at most at its share of the batch, or every process computes all. x0 is drawn from the run's
    `source`, unless the data bring one. Those of `take` are not coupled.
    BLAS gets one thread from here on: more of them fight with the step.
    """
    if block < 1 or workers < 1 or ahead < 1:
        raise ValueError(f"block={block}, workers={workers}, ahead={ahead}: each at least 1")
    # in batches of one block, whole in every process
    inner = _common.made("coupled", data, batch_size=block, process=(0, 1), seed=seed)
    start, stop = _common.local_share(batch_size, process)
    spec = _common.with_noise(inner.spec, codec)
    threadpoolctl.threadpool_limits(1, "blas")
    with jax.default_device(_host()):
        key = jax.random.key(seed)
        roots = {s: jax.random.fold_in(key, _common.split_word(s)) for s in inner.splits}

    @jax.jit
    def drawn(root: Any, index: Any, given: Batch | None) -> tuple[Batch, Any, Any]:
        """Block `index` before it is coupled, its x1 in model space, and the coupling's key."""
        key_data, key_source, key_pair = jax.random.split(jax.random.fold_in(root, index), 3)
        batch = inner.sample(key_data, block) if given is None else given
        x1 = jnp.asarray(batch.x1)
        z = x1 if inner.encoded else codec.encode(x1)
        x0 = source(key_source, z) if batch.x0 is None else batch.x0
        return batch._replace(x0=x0), z, key_pair

    @jax.jit
    def noise_of(root: Any, numbers: Any) -> Any:
        """Each row's by its number, the same wherever reading starts."""
        one = jnp.zeros((1, *spec.x0.shape), spec.x0.dtype)
        return jax.vmap(lambda i: source(jax.random.fold_in(root, i), one)[0])(numbers)

    def compute(split: str, index: int) -> Batch:
        given = None if inner.sample is not None else inner.batch(split, index)
        with jax.default_device(_host()):
            batch, z, key_pair = drawn(roots[split], index, given)
            batch, z = jax.device_get((batch, z))
            rows = coupling(key_pair, batch.x0, z, batch.cond)
        return sources.permuted(batch, Rows(*(np.asarray(r) for r in rows)))

    def needed(step: int) -> range:
        """The blocks that this process's rows of a step lie in."""
        first, last = step * batch_size + start, step * batch_size + stop
        return range(first // block, (last - 1) // block + 1)

    blocks = {
        split: _Ahead(functools.partial(compute, split), needed, workers, ahead)
        for split in inner.splits
    }

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, inner.splits)
        first, last = step * batch_size + start, step * batch_size + stop
        parts = []
        for index, whole in blocks[split](step).items():
            low, high = max(first - index * block, 0), min(last - index * block, block)
            parts.append(jax.tree.map(lambda a, part=slice(low, high): a[part], whole))
        return jax.tree.map(lambda *a: np.concatenate(a), *parts)

    @functools.wraps(inner.take)  # with its arguments, of which `start` is not in every `take`
    def take(split: str, n: int | None, start: int = 0) -> Batch:
        rows = inner.take(split, n, start=start) if start else inner.take(split, n)
        if rows.x0 is not None:
            return rows
        key = jax.random.fold_in(roots[split], 2**32 - 1)  # no block's
        with jax.default_device(_host()):
            x0 = noise_of(key, np.arange(start, start + len(rows.x1)))
        return rows._replace(x0=np.asarray(x0))

    return inner._replace(spec=spec, take=take, batch=batch, sample=None)


class _Ahead:
    """The blocks of one step after the other, computed ahead of being asked for."""

    def __init__(
        self,
        compute: Callable[[int], Batch],
        needed: Callable[[int], range],
        workers: int,
        ahead: int,
    ) -> None:
        self._compute, self._needed, self._workers, self._ahead = compute, needed, workers, ahead
        self._pool: ThreadPoolExecutor | None = None  # most splits are never asked
        self._futures: dict[int, Future[Batch]] = {}
        self._now: range | None = None

    def __call__(self, step: int) -> dict[int, Batch]:
        now = self._needed(step)
        if now != self._now:  # else the same large block serves one more step
            self._now = now
            self._look_ahead(step, len(now) + self._ahead)
        return {index: self._futures[index].result() for index in now}

    def _look_ahead(self, step: int, count: int) -> None:
        self._pool = self._pool or ThreadPoolExecutor(self._workers, "coupling")
        wanted: dict[int, None] = {}
        while len(wanted) < count:
            wanted |= dict.fromkeys(self._needed(step))
            step += 1
        for old in self._futures.keys() - wanted.keys():
            self._futures.pop(old).cancel()
        for index in wanted:
            if index not in self._futures:
                self._futures[index] = self._pool.submit(self._compute, index)


def _host() -> Any:
    """The host's own device, so that plans do not queue behind the step."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise RuntimeError(
            "coupled draws its noise on the CPU, which JAX_PLATFORMS leaves out; "
            "append it, as in JAX_PLATFORMS=cuda,cpu"
        ) from error
