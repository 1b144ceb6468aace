"""Fréchet distance of Gaussians: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the squared W2.

Dowson and Landau 1982; in a network's features, Heusel et al. 2017 (1706.08500). Only with
Inception-v3's features is the number an FID.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from fmjax import types
from fmjax.metrics import _common, _featured, _statistics


def frechet_gaussian(
    mean1: Float[np.ndarray, " d"],
    cov1: Float[np.ndarray, "d d"],
    mean2: Float[np.ndarray, " d"],
    cov2: Float[np.ndarray, "d d"],
) -> float:
    """Squared Wasserstein-2 distance of N(mean1, cov1) and N(mean2, cov2), in float64.

    tr (S1 S2)^(1/2) is the sum of the singular values of S1^(1/2) S2^(1/2): real and stable
    for singular covariances too, where a matrix root of the product S1 S2 is neither.
    """
    cross = np.linalg.svd(_root(cov1) @ _root(cov2), compute_uv=False).sum()
    apart = np.sum((np.asarray(mean1, np.float64) - mean2) ** 2)
    return float(max(apart + np.trace(cov1) + np.trace(cov2) - 2 * cross, 0.0))


def frechet_distance(x: _common.Rows, y: _common.Rows) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features `[n, d]` and `[m, d]`.

    Biased upwards by the finite rows, the more the fewer: compare at equal n only.
    ValueError unless both n and m exceed d, below which the covariances are singular.
    """
    x, y = _common.pair(x, y)
    _statistics.check_enough(min(len(x), len(y)), x.shape[1])
    a, b = _statistics.moments([x]), _statistics.moments([y])
    return frechet_gaussian(a.mean, a.cov, b.mean, b.cov)


def frechet(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Callable[[types.Data, Any], Any] = _common.classifier_features,
    name: str = "",
    dims: int | None = None,
    split: str = "test",
    reference: str = "train",
    n: int | None = None,
    draws: int = 5,
) -> dict[str, float]:
    """Fréchet distance in `features` of generated rows to a split, as `frechet_{name}`.

    The mean over `draws` blocks of `n` rows; `frechet_{name}_floor`: over equally many and
    large real draws of `reference`, by the same estimator; `…_ratio`: the one over the other.
    `features(data, x)` maps rows to `[n, d]`; the default is the last hidden layer of the
    classifier fitted on the real training split. `dims`: only the first principal components of
    the features of `reference`, where n is small beside d (n ≥ 20 dims is a stable figure).
    The numbers depend on that extractor, dims and n, and mean nothing beside those of another.
    The floor is a little high: the classifier knows its training rows.
    Not for FID, which has other sets and sizes: `fmjax.metrics.fid`.
    """
    del net
    title = f"frechet_{_common.feature_name(features, name) or 'data_space'}"
    if hasattr(features, "stream"):  # a pretrained network's: named as `fid` names them
        title += _common.suffix(split)
    n = _common.count(data, split, n)
    project, width = _projection(data, reference, features, dims)
    y = project(_featured.real(features, data, split, n).x1)
    _statistics.check_enough(n, y.shape[1])
    made = project(_featured.generated(features, data, sample, n * draws).x1)
    real = _featured.drawn(features, key, data, split, reference, n, draws)
    found = float(np.mean([frechet_distance(x, y) for x in np.split(made, draws)]))
    floor = float(np.mean([frechet_distance(project(rows), y) for rows in real]))
    return {
        title: found,
        f"{title}_floor": floor,
        f"{title}_ratio": found / floor if floor else float("inf"),
        f"{title}_n": float(n),
        f"{title}_draws": float(draws),
        f"{title}_dims": float(y.shape[1]),
        f"{title}_of_dims": float(width or y.shape[1]),
    }


def _projection(
    data: types.Data, reference: str, features: Callable[..., Any], dims: int | None
) -> tuple[Callable[[Any], Any], int | None]:
    """Of features: themselves, or their first `dims` principal components in `reference`.

    And how many features there are, where that is known.

    ValueError: `dims` is not between 1 and the number of features.
    """
    if dims is None:
        return lambda x: x, None
    size = _common.count(data, reference, None)
    rows = _featured.real(features, data, reference, size).x1
    width = rows.shape[1]
    if not 1 <= dims <= width:
        raise ValueError(f"dims={dims} of {width} features: expected 1 to {width}, or None")
    real = _statistics.moments([rows])
    # eigenvalues ascend
    axes = np.linalg.eigh(real.cov)[1][:, : -dims - 1 : -1]
    return lambda x: (np.asarray(x, np.float64) - real.mean) @ axes, width


def _root(cov: Any) -> Any:
    values, vectors = np.linalg.eigh(np.asarray(cov, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
