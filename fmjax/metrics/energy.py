"""Energy distance: D² = 2 E|X - Y| - E|X - X'| - E|Y - Y'|, zero only for equal distributions.

Székely and Rizzo 2013, "Energy statistics: a class of statistics based on distances".
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fmjax import types
from fmjax.metrics import _common


def energy_distance(x: _common.Rows, y: _common.Rows) -> float:
    """D² as a V-statistic: all pairs count, those of a row with itself too; never below 0.

    `[n, *d]` and `[m, *d]`, flattened; in units of the data. Biased upwards by
    E|X - X'| / n + E|Y - Y'| / m, so that equal distributions give a positive number that
    shrinks with the rows: compare it with a real draw of the same size, not with 0.
    """
    x, y = _common.pair(x, y)
    return _v_statistic(x, y, _mean(y, y))


def energy_distance_unbiased(x: _common.Rows, y: _common.Rows) -> float:
    """D² as a U-statistic: a row is not paired with itself; scatters about 0 where X ~ Y.

    Not for ratios: the denominator would be a number about 0, of either sign.
    ValueError if a set has fewer than 2 rows.
    """
    x, y = _common.pair(x, y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"{len(x)} and {len(y)} rows: the unbiased estimate needs 2 of each")
    xx = _mean(x, x) * len(x) / (len(x) - 1)
    yy = _mean(y, y) * len(y) / (len(y) - 1)
    return 2 * _mean(x, y) - xx - yy


def energy(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    draws: int = 20,
    split: str = "test",
    reference: str = "train",
    n: int | None = None,
) -> dict[str, float]:
    """Energy distance of model draws to a split, over that of equally large draws of real data.

    `energy_distance`: mean over `draws` consecutive blocks of `n` generated rows of the
    V-statistic to the first `n` rows of `split`. `energy_floor`: the same for `draws` random
    draws of `reference`. `energy_ratio`: their quotient; `_sd`: standard deviations over draws.
    The V-statistic, since it is positive in both; the U-statistic of the floor is about 0.

    The number depends on the scale of the data and on n. So does the ratio, about
    1 + n D² / (2 E|X - X'|) for the true D²: compare ratios at one n only, and expect the
    same model to look worse the larger the split. `_sd` is not the ratio's error: the draws
    share one split and one finite `reference`. A perfect model of Gaussian rows gave 1.00 ±
    0.06 over 12 new splits in 64-D (360 of 1,437), but 0.5 to 1.6 over 4 in 2-D (200 of 600).
    A conditional model is given the labels of `split` and real draws are not, which favours it.
    """
    del net
    n = _common.count(data, split, n)
    made = _common.generated(sample, n * draws)
    made, y = _common.pair(made, _common.real(data, split, n))
    yy = _mean(y, y)
    model = [_v_statistic(x, y, yy) for x in np.split(made, draws)]
    rows = _common.reference_draws(key, data, split, reference, n, draws)
    floor = [_v_statistic(_common.flat(x), y, yy) for x in rows]
    if np.mean(floor) <= 0:
        raise ValueError(f"{reference!r} gives the same rows as {split!r}: nothing to compare with")
    return {
        "energy_distance": float(np.mean(model)),
        "energy_distance_sd": float(np.std(model)),
        "energy_floor": float(np.mean(floor)),
        "energy_floor_sd": float(np.std(floor)),
        "energy_ratio": float(np.mean(model) / np.mean(floor)),
        "energy_ratio_sd": float(np.std(model) / np.mean(floor)),
        "energy_n": float(n),
        "energy_draws": float(draws),
    }


def _v_statistic(x: _common.Flat, y: _common.Flat, yy: float) -> float:
    return 2 * _mean(x, y) - _mean(x, x) - yy


def _mean(x: _common.Flat, y: _common.Flat) -> float:
    return _common.mean_over_pairs(lambda d: d, x, y)
