"""What metrics of the flow share: training pairs, and paths of the net's ODE; in model space."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from fmjax import codecs, likelihood, sources, types
from fmjax.metrics import _common


def argument(net: Any) -> Any:
    """The net as an argument of a compiled function, which then serves all parameters of a run."""
    if isinstance(net, tuple):  # several nets
        return type(net)(*map(argument, net))
    if isinstance(net, functools.partial):
        return jax.tree_util.Partial(net.func, *net.args, **net.keywords)
    return jax.tree_util.Partial(net)


def solved_by(solve: Callable[..., Any], name: str) -> dict[str, float]:
    """What a solve's error depends on: its steps or, where they are adapted, its tolerances."""
    options = {k: p.default for k, p in inspect.signature(solve).parameters.items()}
    found = ("steps",) if options.get("steps") is not None else ("rtol", "atol")
    return {f"{name}_{k}": float(options[k]) for k in found if k in options}


def training_pairs(
    key: types.PRNGKey,
    data: types.Data,
    *,
    batches: int,
    batch_size: int,
    source: Callable[..., Any],
    coupling: Callable[..., types.Rows] | None,
    codec: codecs.Codec,
) -> Iterator[types.Batch]:
    """Yield `batches` training batches as an objective sees them: x0 and x1 paired, model space.

    Steps 0, 1, … of the split `train`; `batch_size` rows each where the data are drawn by a key,
    the run's own number otherwise. Weights of rows are kept, dropped conditions are not imitated.
    """
    if batches < 1 or batch_size < 1:
        raise ValueError(f"batches={batches}, batch_size={batch_size}: expected at least 1 each")
    own = codecs.identity() if data.encoded else codec
    weights = jax.device_put(codecs.arrays(own))  # once for all batches
    for i in range(batches):
        key_data, key_pair = jax.random.split(jax.random.fold_in(key, i))
        if data.sample is not None:
            batch = data.sample(key_data, batch_size)
        else:  # of which every process has its share
            batch = multihost_utils.process_allgather(data.batch("train", i), tiled=True)
        yield _paired(key_pair, weights, batch, source=source, coupling=coupling, codec=own)


@functools.partial(jax.jit, static_argnames=("source", "coupling", "codec"))
def _paired(
    key: types.PRNGKey,
    weights: Any,
    batch: types.Batch,
    *,
    source: Callable[..., Any],
    coupling: Callable[..., types.Rows] | None,
    codec: codecs.Codec,
) -> types.Batch:
    key_x0, key_coupling = jax.random.split(key)
    batch = batch._replace(x1=codecs.at(codec, weights).encode(batch.x1))
    return sources.pair(key_x0, key_coupling, batch, source=source, coupling=coupling)


def travelled(
    net: Any,
    key: types.PRNGKey,
    data: types.Data,
    n: int,
    *,
    split: str,
    source: Callable[..., Any],
    codec: codecs.Codec,
    solve: Callable[..., Any],
) -> tuple[_common.Rows, _common.Rows, Float[np.ndarray, " n"], float]:
    """(x0, x1, ∫|v|² dt `[n]`, NFE) of `n` paths of the net's ODE from the source, model space.

    Conditions are those of the first rows of `split`. ValueError: a path that is not finite.
    """
    rows = data.take(split, n)
    arrays, options = codecs.arrays(codec), {"source": source, "codec": codec, "solve": solve}
    x0, x1, energy, nfe = jax.device_get(
        _travelled(argument(net), arrays, key, rows.x1, rows.cond, **options)
    )
    _common.flat(x1)  # are they finite?
    return x0, x1, energy.astype(np.float64), float(np.mean(nfe))


@functools.partial(jax.jit, static_argnames=("source", "codec", "solve"))
def _travelled(
    net: Any,
    weights: Any,
    key: types.PRNGKey,
    rows: Any,
    cond: Any,
    *,
    source: Callable[..., Any],
    codec: codecs.Codec,
    solve: Callable[..., Any],
) -> tuple[Any, ...]:
    def field(t: Array, x: Array, cond: Any) -> tuple[Array, Array]:
        v = net(t, x, cond).astype(x.dtype)
        return v, (v**2).reshape(len(v), -1).sum(axis=1)

    x0 = source(key, codecs.at(codec, weights).encode(rows))
    x1, energy, info = likelihood.along(field, x0, cond, solve=solve)
    return x0, x1, energy, info.nfe
