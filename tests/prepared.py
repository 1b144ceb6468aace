"""TFDS sets of the literature as their owners prepare them, but few random rows of each.

The real builders read them, from ArrayRecord files, in the code path of the real data.
"""

import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fmjax import settings

# The splits of those sets that have others than train and test
SPLITS = {
    "celeb_a_hq": ("train",),
    "downsampled_imagenet": ("train", "validation"),
    "imagenet2012": ("train", "validation"),
    "imagenet_resized": ("train", "validation"),
    "lsun": ("train", "validation"),
}
ANY = (48, 40)  # height and width where images differ in size; every other row is turned


def prepare(name, data_dir, rows=16, splits=None):
    """`rows` random examples of each split of the TFDS set `name` in `data_dir`; where it lies.

    Classes go round; the same images in every call. Nothing happens where it is prepared already.
    """
    made = tfds.builder(name, data_dir=str(data_dir))
    path = Path(made.data_path)
    if (path / "dataset_info.json").exists():
        return path
    splits = splits or SPLITS.get(made.name, ("train", "test"))
    made._split_generators = lambda dl_manager: {
        split: [(f"{split}{i}", _example(made.info.features, i, salt)) for i in range(rows)]
        for salt, split in enumerate(splits)
    }
    # one shard, without the pools and network of the real one
    config = tfds.download.DownloadConfig(try_download_gcs=False, compute_stats="skip")
    made.download_and_prepare(file_format="array_record", download_config=config)
    return path


def _example(features, row, salt):
    return {name: _value(feature, row, salt) for name, feature in features.items()}


def _value(feature, row, salt):
    if isinstance(feature, tfds.features.Image):
        return _png(feature.shape, row, salt)
    if isinstance(feature, tfds.features.ClassLabel):
        return row % feature.num_classes
    if isinstance(feature, tfds.features.Text):
        return f"row-{row}"
    raise TypeError(f"no random value for {feature}; add one here")


def _png(shape, row, salt):
    """A PNG file in memory, as TensorFlow would be needed to encode an array."""
    height, width, channels = shape
    if height is None:
        height, width = ANY[:: 1 if row % 2 else -1]
    bits = np.random.default_rng((row, salt)).integers(0, 256, (height, width, channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(bits[..., 0] if channels == 1 else bits).save(file, "png")
    file.seek(0)
    return file


@functools.cache
def prepare_for(path, data_dir):
    """`prepare` every TFDS set that the config of a file names."""
    for name in builders(settings.load_config(path)):
        prepare(name, data_dir)


def builders(node):
    """The TFDS names anywhere in a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from [value] if key == "builder" and isinstance(value, str) else builders(value)
