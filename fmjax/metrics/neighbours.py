"""Whether the real rows nearest to a sample are of the class that it was asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int

from fmjax import types
from fmjax.metrics import _common, _featured

Labels = Int[np.ndarray, "_"]


def neighbour_agreement(
    x: _common.Rows, wanted: Labels, real: _common.Rows, found: Labels, *, k: int = 1
) -> float:
    """Share, over rows of `x` and their `k` nearest rows of `real`, of those labelled as wanted.

    `[n, *d]` with labels `[n]` and `[m, *d]` with labels `[m]`. ValueError unless 1 ≤ k ≤ m.
    """
    x, real = _common.pair(x, real)
    if not 1 <= k <= len(real):
        raise ValueError(f"k = {k} neighbours among {len(real)} rows: expected 1 <= k <= rows")
    agrees = [
        found[np.argpartition(d, k - 1, axis=1)[:, :k]] == wanted[block, None]
        for block, d in _common.distances(x, real)
    ]
    return float(np.mean(np.concatenate(agrees)))


def neighbours(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    features: Callable[[types.Data, Any], Any] = _common.flat_features,
    name: str = "",
    of: str | None = None,
    k: int = 1,
    split: str = "test",
    reference: str = "train",
    n: int | None = None,
) -> dict[str, float]:
    """`neighbours_{of}`: the share of samples' k nearest real rows that have their class.

    `neighbours_{of}_real`: the same of `n` real rows of `split`, held out: the value to reach.
    Neighbours are sought among all rows of `reference`. `features`: an extractor, or
    `(data, x) -> [n, d]` (default: the example itself); one that is not the data's own is named
    in the keys. `of`: which of several conditions is the class.
    """
    del net, key
    size, n = _common.count(data, reference, None), _common.count(data, split, n)
    if reference == split:
        raise ValueError(f"split {split!r} has itself as neighbour: name another reference")
    known = _featured.real(features, data, reference, size)
    held = _featured.real(features, data, split, n)
    made = _featured.generated(features, data, sample, n)
    among = known.x1, _common.labels(known, of)
    title = _common.named("neighbours" + (f"_{of}" if of else ""), features, name)
    found = {
        f"{title}{end}": neighbour_agreement(batch.x1, _common.labels(batch, of), *among, k=k)
        for end, batch in (("", made), ("_real", held))
    }
    sizes = {"n": n, "reference_n": size, "k": k}
    return found | {f"{title}_{term}": float(value) for term, value in sizes.items()}
