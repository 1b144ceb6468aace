"""Several samplers of one net, compared in one run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fmjax import codecs, types
from fmjax.metrics import _common, _flows
from fmjax.metrics.energy import energy_distance
from fmjax.metrics.wasserstein import w2


def sampled_by(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    sample: Callable[[int], types.Batch],
    *,
    samplers: Mapping[str, Callable[..., Any]],
    source: Callable[..., Any],
    codec: codecs.Codec,
    guidance: Callable[..., Any] | None = None,
    split: str = "test",
    n: int = 1000,
) -> dict[str, float]:
    """W2, energy distance and NFE of `n` samples by each of `samplers`: `name_w2`, and so on.

    All start from the same noise and have the same keys and the conditions of `split`; the run's
    own sampler and guidance play no part (give `guidance` here). The distances are to the first
    `n` rows of `split`, and are biased as `wasserstein` and `energy` say: compare them with each
    other. Not for many rows or large examples: one device program of `n` rows each.
    """
    del sample
    n = _common.count(data, split, n)
    rows = data.take(split, n)
    key_x0, key_sampler = jax.random.split(key)
    like = jax.eval_shape(codec.encode, jax.ShapeDtypeStruct(rows.x1.shape, rows.x1.dtype))
    x0 = source(key_x0, jnp.empty(like.shape, like.dtype))
    weights = jax.device_put(codecs.arrays(codec))  # once for all samplers
    found = {}
    for name, sampler in samplers.items():

        @jax.jit
        def draw(net: Any, weights: Any, x0: Any, cond: Any, sampler: Any = sampler) -> Any:
            net = net if guidance is None else guidance(net)
            z, info = sampler(net, key_sampler, x0, cond)
            return codecs.at(codec, weights).decode(z), info.nfe

        x1, nfe = draw(_flows.argument(net), weights, x0, rows.cond)
        found[f"{name}_w2"] = w2(x1, rows.x1)
        found[f"{name}_energy_distance"] = energy_distance(x1, rows.x1)
        found[f"{name}_nfe"] = float(np.mean(nfe))
    return found
