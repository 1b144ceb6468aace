"""Where in time the loss is: mean squared error of the velocity in bins of t."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fmjax import codecs, paths, sources, types
from fmjax.metrics import _flows


def loss_by_time(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Any,
    *,
    bins: int = 5,
    low: float | int = 0.0,
    high: float | int = 1.0,
    batches: int = 8,
    batch_size: int = 256,
    bridge: paths.Bridge = paths.bridge(paths.linear()),
    source: Callable[..., Any] = sources.normal,
    coupling: Callable[..., types.Rows] | None = None,
    codec: codecs.Codec = codecs.identity(),
) -> dict[str, float]:
    """E|v(t, x_t) − u_t|², a mean over an example's numbers, for t uniform in each of `bins`.

    On `batches` training batches with the run's pairs and bridge; the objective's own law of t,
    weights and dropped conditions do not enter, nor does dropout. The bins of [low, high] get
    equally many rows. Named by their ends: `loss_t0.00_0.20`. Most of it is variance of the
    target that no net can explain; see `target_variance`. `batch_size` counts only where the data
    are drawn by a key; ValueError: a batch of fewer rows than bins, or bins narrower
    than 0.01.
    """
    del sample
    if high - low < 0.01 * bins:
        raise ValueError(
            f"{bins} bins of [{low}, {high}] are narrower than 0.01, to which their names are "
            "rounded: ask for fewer"
        )
    key_pairs, key_error = jax.random.split(key)
    pairs = _flows.training_pairs(
        key_pairs,
        data,
        batches=batches,
        batch_size=batch_size,
        source=source,
        coupling=coupling,
        codec=codec,
    )
    ends = np.linspace(low, high, bins + 1)
    sums = []
    for i, batch in enumerate(pairs):
        if len(batch.x1) < bins:
            raise ValueError(f"{bins} bins of a batch of {len(batch.x1)} rows: ask for fewer")
        own = jax.random.fold_in(key_error, i)
        error = _errors(_flows.argument(net), own, batch, low, high, bins=bins, bridge=bridge)
        rows = np.asarray(error, np.float64)
        sums.append([rows[k::bins].mean() for k in range(bins)])
    means = np.mean(sums, axis=0)
    return {
        f"loss_t{a:.2f}_{b:.2f}": float(m)
        for a, b, m in zip(ends[:-1], ends[1:], means, strict=True)
    }


@functools.partial(jax.jit, static_argnames=("bridge", "bins"))
def _errors(
    net: Any,
    key: types.PRNGKey,
    batch: types.Batch,
    low: Any,
    high: Any,
    *,
    bins: int,
    bridge: paths.Bridge,
) -> Array:
    """The error of every row; row i has its time in bin i mod `bins`."""
    key_t, key_bridge = jax.random.split(key)
    rows = len(batch.x1)
    u = (jnp.arange(rows) % bins + jax.random.uniform(key_t, (rows,))) / bins
    t = low + (high - low) * u
    xt, ut, _ = bridge(key_bridge, t, batch.x0, batch.x1)
    return ((net(t, xt, batch.cond) - ut) ** 2).reshape(rows, -1).mean(axis=1)
