"""Precision: generated rows within the real manifold; recall: real rows within the generated one.

A set's manifold is the union of balls about its rows, each as wide as the distance to the
row's k-th nearest neighbour in the set.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from fmjax import types
from fmjax.metrics import _common, _featured


def precision_recall(real: _common.Rows, fake: _common.Rows, *, k: int = 3) -> dict[str, float]:
    """`precision`, `recall` in [0, 1], Kynkäänniemi et al. 2019 (1904.06991), eqs. 1 and 2.

    And `density` (≥ 0, about 1 for equal distributions) and `coverage` in [0, 1], which
    outliers do not fool, Naeem et al. 2020 (2002.09797); they recommend k = 5 for these.
    `[n, *d]` and `[m, *d]`; depends on n, m and k. ValueError if n or m is at most k.
    """
    real, fake = _common.pair(real, fake)
    real_radius, fake_radius = _radii(real, k), _radii(fake, k)
    balls_about_fake = np.zeros(len(fake))
    recalled, covered = [], []
    for block, d in _common.distances(real, fake):
        inside = d <= real_radius[block, None]
        balls_about_fake += inside.sum(axis=0)
        covered.append(inside.any(axis=1))
        recalled.append((d <= fake_radius).any(axis=1))
    return {
        "precision": float(np.mean(balls_about_fake > 0)),
        "recall": float(np.mean(np.concatenate(recalled))),
        "density": float(np.mean(balls_about_fake) / k),
        "coverage": float(np.mean(np.concatenate(covered))),
    }


def manifold(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Callable[[types.Data, Any], Any] = _common.flat_features,
    name: str = "",
    k: int = 3,
    split: str = "test",
    reference: str = "train",
    n: int | None = None,
) -> dict[str, float]:
    """Precision, recall, density and coverage of generated rows against a split.

    `..._reference`: of an equally large real draw of `reference`, the values to reach; in many
    dimensions they are well below 1. In data space; another `features(data, x) -> [n, d]`
    needs a `name`, which then starts every key (`fmjax.metrics.classifier:features`).
    The numbers depend on the features, n and k. Against the test split, so that copies of
    training rows earn nothing; the paper takes the training set.
    """
    del net
    name = _common.feature_name(features, name)
    n = _common.count(data, split, n)
    y = _featured.real(features, data, split, n).x1
    x = _featured.generated(features, data, sample, n).x1
    (drawn,) = _featured.drawn(features, key, data, split, reference, n, 1)
    model, real = (precision_recall(y, z, k=k) for z in (x, drawn))
    found = model | {f"{term}_reference": value for term, value in real.items()}
    found |= {"manifold_k": float(k), "manifold_n": float(n)}
    return {f"{name}_{term}" if name else term: value for term, value in found.items()}


def _radii(x: _common.Flat, k: int) -> Float[np.ndarray, " n"]:
    if not 1 <= k < len(x):
        raise ValueError(f"k = {k} neighbours among {len(x)} rows: expected 1 <= k < rows")
    radii = []
    for block, d in _common.distances(x, x):
        d[np.arange(len(d)), np.arange(block.start, block.stop)] = np.inf
        radii.append(np.partition(d, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)
