"""TFDS sets too large for memory: a Grain pipeline, addressable by step."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import grain
import numpy as np

from fmjax.data import _common, _tfds
from fmjax.types import Batch, Data


def tfds_grain(
    builder: _tfds.Builder,
    *,
    data_dir: str | os.PathLike[str],
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    splits: Mapping[str, str] | None = None,
    image: str = "image",
    label: str | None = "label",
    transform: Callable[[Any], Any] = _tfds.as_float,
    workers: int = 4,
    ahead: int = 8,
    prepare: bool = False,
) -> Data:
    """Batches of a TFDS set read ahead of the step in `workers` threads, `ahead` batches at most.

    builder:   a TFDS name ("mnist") or a builder class
    splits:    names to TFDS slices, {"train": "train[:90%]"}; None: the set's own
    transform: from the feature `image` to x1, in data space (crop and resize here)
    label:     the feature that becomes `cond` (None: unconditional)

    As in `in_memory`, an epoch shows every row once, and `batch(split, step)` is a pure function;
    asked for in order it was already read, otherwise reading starts anew at `step` (30 ms).
    The host holds `ahead` batches a split. Prepare a large set alone, with --mode=prepare: several
    processes that start at once are safe but each prepares a copy.

    Not for sets below 1 GB: a batch of `tfds_in_memory` costs a hundredth.
    """
    made = _tfds.opened(builder, data_dir=data_dir, prepare=prepare)
    read = _tfds.example_reader(made, image=image, label=label, transform=transform)
    sources = _tfds.splits_of(made, splits)
    rows = {name: len(source) for name, source in sources.items()}
    share = _common.local_share(batch_size, process)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=ahead)

    def load(split: str, chosen: np.ndarray) -> Batch:
        return _tfds.stack([read(sources[split][int(row)]) for row in chosen])

    def batches(split: str) -> grain.MapDataset:
        # the order of the whole set first, then this process's part of each global batch:
        # an element is one batch, so a thread decodes nothing that another process needs
        order = grain.MapDataset.range(rows[split]).seed(seed).shuffle().repeat().batch(batch_size)
        return order.map(lambda chosen: load(split, chosen[slice(*share)]))

    readers = {name: _Reader(batches(name), options) for name in sources}

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, rows)
        return readers[split](step)

    def take(split: str, n: int | None) -> Batch:
        _common.check_split(split, rows)
        return load(split, _common.fixed_rows(split, rows[split], n))

    spec = _common.spec_of(load(next(iter(sources)), np.arange(1)))
    return Data(spec, rows, take, batch=batch, **_tfds.classes(made, label))


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
