"""What the regression has to explain, over time: the variance of its target, and what is left."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fmjax import codecs, paths, sources, types
from fmjax.metrics import _flows


def target_variance(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Any,
    *,
    times: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    batches: int = 8,
    batch_size: int = 256,
    bridge: paths.Bridge = paths.bridge(paths.linear()),
    source: Callable[..., Any] = sources.normal,
    coupling: Callable[..., types.Rows] | None = None,
    codec: codecs.Codec = codecs.identity(),
) -> dict[str, float]:
    """Var(u_t), a mean over an example's numbers, and the share 1 − E|v − u_t|² / Var(u_t).

    At each of `times`, over `batches` training batches; model space. Even the exact field leaves
    E Var(u_t | x_t), which the coupling and the bridge decide: a share below 1 is no fault of the
    net, a share that falls while training is. About 0 or less: the net knows no more than the
    mean. `batch_size` counts only where the data are drawn by a key. Pooladian et al. 2023
    (2304.14772), section 3, on why couplings lower that rest. ValueError: times that round to one.
    """
    del sample
    if len({f"{t:.2f}" for t in times}) < len(times):
        raise ValueError(f"times {tuple(times)}: two have one name, rounded to 0.01; drop one")
    sums = []
    key_pairs, key_bridge = jax.random.split(key)
    pairs = _flows.training_pairs(
        key_pairs,
        data,
        batches=batches,
        batch_size=batch_size,
        source=source,
        coupling=coupling,
        codec=codec,
    )
    ts = np.asarray(times, np.float32)
    for i, batch in enumerate(pairs):
        own = jax.random.fold_in(key_bridge, i)
        sums.append(jax.device_get(_moments(_flows.argument(net), own, batch, ts, bridge=bridge)))
    mean, square, error = (np.mean(np.asarray(s, np.float64), 0) for s in zip(*sums, strict=True))
    results = {}
    for i, t in enumerate(times):
        variance = float(np.mean(square[i] - mean[i] ** 2))
        results[f"target_variance_t{t:.2f}"] = variance
        results[f"target_explained_t{t:.2f}"] = 1 - float(error[i]) / variance
    return results


@functools.partial(jax.jit, static_argnames=("bridge",))
def _moments(
    net: Any, key: types.PRNGKey, batch: types.Batch, times: Array, *, bridge: paths.Bridge
) -> tuple[Array, Array, Array]:
    """E u and E u² `[k, *d]`, and the net's mean squared error `[k]`."""

    def at(time: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        t, own = time
        xt, ut, _ = bridge(own, jnp.full(len(batch.x1), t), batch.x0, batch.x1)
        v = net(jnp.full(len(batch.x1), t), xt, batch.cond)
        return ut.mean(axis=0), (ut**2).mean(axis=0), ((v - ut) ** 2).mean()

    return jax.lax.map(at, (times, jax.random.split(key, len(times))))
