"""A TFDS data set below about 1 GB, decoded once into host arrays."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from fmjax.data import _tfds
from fmjax.data.in_memory import in_memory
from fmjax.types import Data


def tfds_in_memory(
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
    prepare: bool = False,
) -> Data:
    """Every example of a TFDS set in memory; then as `in_memory`.

    builder:   a TFDS name ("mnist") or a builder class
    splits:    names to TFDS slices, {"train": "train[:90%]"}; None: the set's own
    transform: from the feature `image` to x1, in data space
    label:     the feature that becomes `cond` (None: unconditional)

    A start decodes everything again, about 0.1 ms an example: `tfds_grain` starts at once.
    """
    made = _tfds.opened(builder, data_dir=data_dir, prepare=prepare)
    read = _tfds.example_reader(made, image=image, label=label, transform=transform)
    sets = {
        name: _tfds.stack([read(source[i]) for i in range(len(source))])
        for name, source in _tfds.splits_of(made, splits).items()
    }
    classes = _tfds.classes(made, label)
    return in_memory(sets, batch_size=batch_size, seed=seed, process=process, **classes)
