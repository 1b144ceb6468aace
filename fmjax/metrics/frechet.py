"""Fréchet distance of Gaussians: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the squared W2.

Dowson and Landau 1982; in a network's features, Heusel et al. 2017 (1706.08500). Only with
Inception-v3's features is the number an FID.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from fmjax import types
from fmjax.metrics import _common


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
    n, d = min(len(x), len(y)), x.shape[1]
    if n <= d:
        raise ValueError(
            f"{n} rows of {d} features give a singular covariance: "
            f"pass at least {d + 1} rows (several times as many for a stable figure)"
        )
    return frechet_gaussian(*_moments(x), *_moments(y))


def frechet(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Callable[[types.Data, Any], Any] = _common.classifier_features,
    name: str = "classifier",
    split: str = "test",
    reference: str = "train",
    n: int | None = None,
    draws: int = 5,
) -> dict[str, float]:
    """Fréchet distance in `features` of generated rows to a split, as `frechet_{name}`.

    The mean over `draws` blocks of `n` rows; `frechet_{name}_floor`: over equally many and
    large real draws of `reference`. `features(data, x)` maps rows to `[n, d]`; the default is
    the last hidden layer of the classifier fitted on the real training split. The numbers
    depend on that extractor and on n, and mean nothing beside those of another. The floor is
    a little high: the classifier knows its training rows.
    """
    del net
    n = _common.count(data, split, n)
    y = features(data, _common.real(data, split, n))
    made = np.split(features(data, _common.generated(sample, n * draws)), draws)
    real = _common.reference_draws(key, data, split, reference, n, draws)
    return {
        f"frechet_{name}": float(np.mean([frechet_distance(x, y) for x in made])),
        f"frechet_{name}_floor": float(
            np.mean([frechet_distance(features(data, rows), y) for rows in real])
        ),
        f"frechet_{name}_n": float(n),
        f"frechet_{name}_draws": float(draws),
    }


def _moments(x: _common.Flat) -> tuple[Any, Any]:
    return x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False))


def _root(cov: Any) -> Any:
    values, vectors = np.linalg.eigh(np.asarray(cov, np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
