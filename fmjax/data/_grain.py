"""Rows read ahead of the step in threads: what all sets too large for memory share."""

from collections.abc import Callable, Mapping
from typing import Any

import grain
import numpy as np

from fmjax.data import _common
from fmjax.types import Batch, Data


def streamed(
    rows: Mapping[str, int],
    load: Callable[[str, np.ndarray], Batch],
    *,
    batch_size: int,
    seed: int,
    process: tuple[int, int],
    workers: int,
    ahead: int,
    **rest: Any,
) -> Data:
    """Batches of `load(split, row numbers)`, each epoch all of a split's `rows` in a new order.

    `batch(split, step)` is a pure function, which reads `ahead` batches in `workers` threads.
    `rest`: the `null`, `read`, `names` and `contents` of `Data`.
    """
    share = _common.local_share(batch_size, process)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)

    def batches(split: str) -> grain.MapDataset:
        # the order of the whole set first, then this process's part of each global batch:
        # an element is one batch, so a thread decodes nothing that another process needs
        order = grain.MapDataset.range(rows[split]).seed(seed).shuffle().repeat().batch(batch_size)
        return order.map(lambda chosen: load(split, chosen[slice(*share)]))

    readers = {name: _Reader(batches(name), options) for name in rows}

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, rows)
        return readers[split](step)

    def take(split: str, n: int | None, start: int = 0) -> Batch:
        _common.check_split(split, rows)
        return load(split, _common.fixed_rows(split, rows[split], n, start))

    spec = _common.spec_of(load(next(iter(rows)), np.arange(1)))
    return Data(spec, rows, take, batch=batch, **rest)


class _Reader:
    """Element `step` of a pipeline; an iterator that reads ahead serves steps asked in order."""

    def __init__(self, batches: grain.MapDataset, options: grain.ReadOptions) -> None:
        self._batches, self._options = batches, options
        self._iterator: Any = None
        self._next: int | None = None

    def __call__(self, step: int) -> Batch:
        if step != self._next:
            self._start(step)
        self._next = None  # should reading fail, the next call starts anew
        batch = next(self._iterator)
        self._next = step + 1
        return batch

    def _start(self, step: int) -> None:
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = iter(self._batches[step:].to_iter_dataset(self._options))
