"""1,797 handwritten digits of 8×8 pixels, embedded in scikit-learn: nothing to download."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from fmjax.data.tfds_memory import tfds_in_memory
from fmjax.types import Data


def digits(
    *,
    data_dir: str | os.PathLike[str],
    batch_size: int,
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    prepare: bool = True,
) -> Data:
    """x1 `[8, 8, 1]` float32 in 0..16, cond int32 in 0..9, null 10; 1,437 train and 360 test rows.

    Prepared in `data_dir` at the first call. The splits never depend on `seed`, which orders the
    batches only. Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits,
    doi 10.24432/C50P49, its test half as scikit-learn carries it.
    """
    return tfds_in_memory(
        SklearnDigits,
        data_dir=data_dir,
        batch_size=batch_size,
        seed=seed,
        process=process,
        prepare=prepare,
    )


class SklearnDigits(tfds.core.GeneratorBasedBuilder):
    """The digits as a TFDS set; train : test = 80 : 20, stratified by class, seed 0."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        # `dataset_info_from_configs` needs a package folder with metadata files
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # nothing to download
        # imported here, as a set that is already prepared must not wait a second for scikit-learn
        from sklearn import datasets, model_selection

        images, labels = datasets.load_digits(return_X_y=True)
        train, test = model_selection.train_test_split(
            np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
        )
        return {
            "train": self._generate_examples(images, labels, train),
            "test": self._generate_examples(images, labels, test),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict]]:
        for row in rows.tolist():
            image = images[row].astype(np.uint8).reshape(8, 8, 1)
            yield row, {"image": image, "label": int(labels[row])}
