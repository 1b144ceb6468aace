"""Features of real and of generated rows.

Those of an extractor are computed as the rows are read, so that a chunk of images is held at a
time; other features are of all rows at once.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from fmjax import reading, types
from fmjax.metrics import _common

Features = Callable[[types.Data, Any], Any]


def real(features: Features, data: types.Data, split: str, n: int) -> types.Batch:
    """The first `n` rows of a split, with features in the place of x1."""
    return _joined(features, data, reading.chunks(data.take, split, n, size(features, n)))


def generated(
    features: Features, data: types.Data, sample: Callable[[int], types.Batch], n: int
) -> types.Batch:
    """`n` generated rows, with features in the place of x1."""
    return _joined(features, data, _common.generated_chunks(sample, n, size(features, n)))


def drawn(
    features: Features,
    key: types.PRNGKey,
    data: types.Data,
    split: str,
    reference: str,
    n: int,
    draws: int,
) -> Iterator[Any]:
    """Yield the features of each of `_common.reference_draws`."""
    if not hasattr(features, "stream"):
        for rows in _common.reference_draws(key, data, split, reference, n, draws):
            yield features(data, rows)
        return
    total, places = _common.reference_places(key, data, split, reference, n, draws)
    for own in places:
        yield _joined(features, data, reading.picked(data.take, reference, total, own)).x1


def size(features: Features, n: int) -> int:
    """How many of `n` rows to read at a time: whole chunks of an extractor's, which it fills up."""
    if not hasattr(features, "stream"):
        return n
    chunk = getattr(features, "chunk", reading.ROWS)
    return max(1, reading.ROWS // chunk) * chunk


def _joined(features: Features, data: types.Data, batches: Iterable[types.Batch]) -> types.Batch:
    parts = [types.Batch(features(data, np.asarray(batch.x1)), batch.cond) for batch in batches]
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)
