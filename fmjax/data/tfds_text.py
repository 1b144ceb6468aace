"""TFDS sets of texts: one text an example, read and made into tokens ahead of the step."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fmjax import codecs
from fmjax.data import _grain, _text, _tfds
from fmjax.types import Batch, Data


def tfds_text(
    builder: _tfds.Builder,
    *,
    codec: codecs.Codec,
    data_dir: str | os.PathLike[str],
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    splits: Mapping[str, str] | None = None,
    text: str = "text",
    label: str | None = None,
    length: int = 256,
    clean: Callable[[str], str] | None = None,
    workers: int = 4,
    ahead: int = 8,
    prepare: bool = False,
) -> Data:
    """x1 int32 `[length]`, the first words of a text, filled with the codec's end.

    builder: a TFDS name ("imdb_reviews", "lm1b") or a builder class
    splits:  names to TFDS slices, {"train": "train[:90%]"}; None: the set's own
    text:    the feature that holds the text; `label`: the one that becomes `cond` (None: none)
    clean:   from text to text, such as `fmjax.text:letters`, which leaves 27 symbols

    The order of rows and the threads are those of `tfds_grain`. Not for long documents, of which
    only the first `length` tokens are seen: write them to files, for `text_folder`.
    ValueError: a codec without an end; a set without such a feature.
    """
    change = clean or str
    fill = _text.filled(codec, length)
    made = _tfds.opened(builder, data_dir=data_dir, prepare=prepare)
    read = _tfds.example_reader(
        made, image=text, label=label, transform=lambda found: fill(change(_str(found)))
    )
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


def _str(found: Any) -> str:
    return found.decode() if isinstance(found, bytes) else str(found)
