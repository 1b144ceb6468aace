"""Maximum mean discrepancy: MMD² = E k(X, X') + E k(Y, Y') - 2 E k(X, Y), with Gaussian kernels.

Gretton et al. 2012, "A kernel two-sample test", JMLR 13, equation 3.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fmjax import types
from fmjax.metrics import _common


def median_distance(x: _common.Rows, *, most: int = 1000) -> float:
    """Median distance between two different rows, the bandwidth of Gretton et al. 2012, section 8.

    Of at most `most` rows, evenly spaced. ValueError if it is 0 or there is one row only.
    """
    # Costs 0.4 s, which a run that never evaluates need not pay.
    from scipy.spatial import distance

    x = _common.flat(x)
    x = x[:: -(-len(x) // most)]
    if len(x) < 2 or (median := float(np.median(distance.pdist(x)))) == 0:
        raise ValueError(f"the median distance of {len(x)} rows is 0 or undefined: no bandwidth")
    return median


def mmd2(
    x: _common.Rows, y: _common.Rows, *, bandwidths: float | Sequence[float] | None = None
) -> float:
    """Unbiased MMD² with k = mean over bandwidths s of exp(-|x - y|² / (2 s²)); may be negative.

    `[n, *d]` and `[m, *d]`, flattened. `bandwidths=None`: the median distance of the pooled
    rows, for one test; to compare models, give one that does not depend on them.
    ValueError if a set has fewer than 2 rows.
    """
    x, y = _common.pair(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"{n} and {m} rows: the unbiased estimate needs 2 of each")
    if bandwidths is None:
        bandwidths = median_distance(np.concatenate([x, y]))
    scales = np.atleast_1d(np.asarray(bandwidths, np.float64))

    def kernel(d: Any) -> Any:
        return sum(np.exp(-((d / s) ** 2) / 2) for s in scales) / len(scales)

    # k = 1 on the diagonal, which the unbiased estimate leaves out.
    xx = (_common.mean_over_pairs(kernel, x, x) * n - 1) / (n - 1)
    yy = (_common.mean_over_pairs(kernel, y, y) * m - 1) / (m - 1)
    return xx + yy - 2 * _common.mean_over_pairs(kernel, x, y)


def mmd(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    split: str = "test",
    reference: str = "train",
    n: int | None = None,
    multiples: Sequence[float] = (0.5, 1.0, 2.0),
) -> dict[str, float]:
    """Unbiased MMD² of generated rows to a split; `mmd2_floor`: of a real draw of `reference`.

    Bandwidths: `multiples` of the median distance within `split`, returned as
    `mmd_bandwidth`; real rows only, so that every model is measured with one kernel.
    The numbers depend on those and scatter about 0 with n; they do not grow with the data's
    scale. Not for ratios: the floor is about 0, of either sign.
    """
    del net
    n = _common.count(data, split, n)
    y = _common.real(data, split, n)
    x = _common.generated(sample, n)
    (z,) = _common.reference_draws(key, data, split, reference, n, 1)
    bandwidth = median_distance(y)
    bandwidths = [bandwidth * multiple for multiple in multiples]
    return {
        "mmd2": mmd2(x, y, bandwidths=bandwidths),
        "mmd2_floor": mmd2(z, y, bandwidths=bandwidths),
        "mmd_bandwidth": bandwidth,
        "mmd_n": float(n),
    }
