"""Whether generated examples lie nearer to the training rows than unseen real examples do."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fmjax import types
from fmjax.metrics import _common


def memorisation_ratio(samples: _common.Rows, train: _common.Rows, test: _common.Rows) -> float:
    """Median of min |sample - train| over the median of min |test - train|.

    1: samples are as far from the training rows as unseen data; below: copying; 0: more than
    half are copies; above: too far away, such as blurred or noisy. Depends on the number of
    training rows. ValueError if at least half the test rows are themselves training rows.
    """
    to_train, unseen = _to_train(samples, train, test)
    return float(np.median(to_train) / np.median(unseen))


def memorisation_close(
    samples: _common.Rows, train: _common.Rows, test: _common.Rows, *, quantile: float = 0.05
) -> float:
    """Share of samples nearer to the training rows than a `quantile` of the test rows is.

    About `quantile` for fresh examples; shows copies too few to move a median.
    """
    to_train, unseen = _to_train(samples, train, test)
    return float(np.mean(to_train < np.quantile(unseen, quantile)))


def memorisation(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    split: str = "test",
    train: str = "train",
    n: int | None = None,
) -> dict[str, float]:
    """`memorisation_ratio`, and `memorisation_close`: about 0.05 for fresh examples.

    `n` generated and `n` real rows of `split` (default: all) against the whole `train`, on
    flattened examples in data space. Depends on the rows of `train` (returned) and on the
    guidance scale, which draws samples towards the middle, where training rows are dense.
    ValueError if `train` has no end: then there is nothing to memorise.
    """
    del net, key
    size = _common.count(data, train, None)
    if data.splits[train] == 0:
        raise ValueError(
            f"split {train!r} is unlimited, so there is nothing to memorise: "
            "leave this evaluator out for this data"
        )
    n = _common.count(data, split, n)
    seen, unseen = _common.real(data, train, size), _common.real(data, split, n)
    made = _common.generated(sample, n)
    return {
        "memorisation_ratio": memorisation_ratio(made, seen, unseen),
        "memorisation_close": memorisation_close(made, seen, unseen),
        "memorisation_n": float(n),
        "memorisation_train_n": float(size),
    }


def _to_train(samples: _common.Rows, train: _common.Rows, test: _common.Rows) -> tuple[Any, Any]:
    samples, seen = _common.pair(samples, train)
    test, _ = _common.pair(test, train)
    unseen = _common.nearest(test, seen)
    if np.median(unseen) == 0:
        raise ValueError(
            "at least half the test rows are training rows: choose a split that was not trained on"
        )
    return _common.nearest(samples, seen), unseen
