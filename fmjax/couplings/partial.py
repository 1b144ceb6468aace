"""Exact partial optimal transport, on the host: only the cheapest share of rows is paired."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fmjax.couplings import _common
from fmjax.types import PRNGKey, Rows


def partial(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any = None,
    *,
    mass: float,
    cost: Callable[..., _common.Costs] = _common.squared_distances,
) -> Rows:
    """b pairs from argmin Σ π·cost over plans of total mass `mass`, marginals at most 1/b.

    The round(mass·b) pairs of that plan are used ⌊1/mass⌋ or ⌈1/mass⌉ times each, in random
    order; the other rows not at all. So the model learns neither the whole data nor from the
    whole source: for data with outliers far from everything. 1 is `exact`.
    ValueError: mass outside (0, 1], or less than one pair. Warns if there is a condition: see
    `conditional`. Chapel et al. 2020 (2002.08276); POT's network simplex.
    """
    import ot  # looks for every array library there is, which costs up to 2 s

    _common.on_host("partial", x0, x1)
    _common.warn_if_conditional("partial", cond)
    b = len(x1)
    pairs = round(mass * b)
    if not 0 < mass <= 1 or not pairs:
        raise ValueError(
            f"mass={mass} of {b} rows: expected a share in (0, 1] of at least one pair, "
            f"{1 / b:.3g} or more here"
        )
    # in units of rows, so that a plan's entries are 0 and 1; a dummy on either side takes the rest
    ones = np.ones(b)
    plan = ot.partial.partial_wasserstein(ones, ones, cost(x1, x0), m=pairs)
    rng = _common.generator(key)
    rows_x1, rows_x0 = rng.permutation(np.argwhere(plan > 0.5)).T
    drawn = _common.systematic(rng.random(), np.ones(len(rows_x1)), b)
    return Rows(rows_x0[drawn], rows_x1[drawn])
