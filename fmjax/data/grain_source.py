"""TFDS sets too large for memory: a Grain pipeline, addressable by step."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fmjax.data import _grain, _tfds
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

    def load(split: str, chosen: np.ndarray) -> Batch:
        return _tfds.stack([read(sources[split][int(row)]) for row in chosen])

    return _grain.streamed(
        {name: len(source) for name, source in sources.items()},
        load,
        batch_size=batch_size,
        seed=seed,
        process=process,
        workers=workers,
        ahead=ahead,
        contents=_tfds.contents_of(made, splits),
        **_tfds.classes(made, label),
    )
