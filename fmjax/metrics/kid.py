"""KID: the unbiased MMD² of a pretrained network's features, with k(x, y) = (x·y / d + 1)³."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fmjax import types
from fmjax.metrics import _common, _featured

KID_FEATURES = "inception"


def polynomial_mmd2(x: _common.Rows, y: _common.Rows) -> float:
    """Unbiased MMD² of features `[m, d]` and `[n, d]`, k(x, y) = (x·y / d + 1)³; may be negative.

    Bińkowski et al. 2018 (1801.01401), section 4. ValueError if a set has fewer than 2 rows.
    """
    x, y = _common.pair(x, y)
    m, n = len(x), len(y)
    if min(m, n) < 2:
        raise ValueError(f"{m} and {n} rows: the unbiased estimate needs 2 of each")

    def kernel(a: Any, b: Any) -> Any:
        return (a @ b.T / x.shape[1] + 1) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    within = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
    return float(within - 2 * kernel(x, y).mean())


def kid(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Any,
    split: str = "train",
    n: int | None = None,
    reference_n: int | None = None,
    subsets: int = 100,
    subset_size: int = 1000,
) -> dict[str, float]:
    """Mean over `subsets` draws of `subset_size` rows of the unbiased MMD², and their deviation.

    `kid` only in the features of `fmjax.pretrained.inception:extractor`; in those of another
    network `kernel_distance_{name}`, with `_{split}` unless that is "train". Unlike FID it is
    unbiased: usable with few rows. Not multiplied by 1000, as some tables are. The default draws
    take 6e11 multiplications of 2048 features on the host: fewer `subsets` where that matters.
    ValueError: fewer rows than `subset_size`.
    """
    del net
    title = _common.title(features, {KID_FEATURES: "kid"}, "kernel_distance")
    title += _common.suffix(split)
    size = _common.count(data, split, reference_n)
    n = _common.count(data, split, None) if n is None else n
    if not 2 <= subset_size <= min(n, size):
        raise ValueError(
            f"subsets of {subset_size} rows from {n} generated and {size} real ones: "
            f"pass subset_size={min(n, size)} or less (at least 2)"
        )
    x = _featured.generated(features, data, sample, n).x1
    y = _featured.real(features, data, split, size).x1
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    found = [
        polynomial_mmd2(
            x[rng.choice(n, subset_size, replace=False)],
            y[rng.choice(size, subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return {
        title: float(np.mean(found)),
        f"{title}_std": float(np.std(found)),
        f"{title}_n": float(n),
        f"{title}_reference_n": float(size),
        f"{title}_subsets": float(subsets),
        f"{title}_subset_size": float(subset_size),
    }
