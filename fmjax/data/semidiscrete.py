"""Data drawn from the semidiscrete plan: noise first, then the row that it is transported to."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fmjax import codecs, sources
from fmjax.couplings import semidiscrete as plans
from fmjax.data import _common
from fmjax.types import Batch, Data


def semidiscrete(
    data: Any,
    *,
    batch_size: int,
    source: Callable[..., Any] = sources.normal,
    codec: codecs.Codec = codecs.identity(),
    seed: int = 0,
    process: tuple[int, int] = (0, 1),
    rows: int | None = None,
    steps: int = 4000,
    fit_batch: int = 256,
) -> Data:
    """x0 from the run's `source` and x1 = the row argmin_j |x0 − x1_j|² − g_j, as `Batch.x0, x1`.

    data: a data set to be made here, in a config dict(bind="fmjax.data.digits:digits", …)
    rows: how many to transport to, of `take`'s order (None: all, or 2048 of an endless set)
    steps, fit_batch: of `couplings.semidiscrete.fit`, when a split is first asked for a batch

    Transport of the populations: no bias of minibatches, and no plan a batch, but one product of
    batch × rows × dimensions on the device. Each row comes with the same chance, not once an
    epoch. Where data have classes, x0 is first given one, whatever its value, and goes to a row
    of that class, so p(x0 | class) is the source. Batch s depends on (seed, s) alone.
    Not for sets of which the rows do not fit into the device's memory, nor for real-valued
    conditions (ValueError): those need `coupled` with `couplings.conditional.continuous`.
    """
    # the order of its own batches does not matter
    options = {"batch_size": batch_size, "process": process, "seed": seed}
    inner = _common.made("semidiscrete", data, **options)
    start, stop = _common.local_share(batch_size, process)
    spec = _common.with_noise(inner.spec, codec)

    @functools.cache
    def fitted(split: str) -> tuple[Batch, Any, Any, Any]:
        kept = inner.take(split, rows)
        # its weights as an argument: a constant is copied into the program
        encode = jax.jit(lambda weights, x: codecs.at(codec, weights).encode(x))
        points = encode(codecs.arrays(codec), jnp.asarray(kept.x1))
        labels = _labels(kept.cond)
        fit = functools.partial(plans.fit, source=source, steps=steps, batch=fit_batch)
        return kept, points, jax.jit(fit)(key_of(split, 0), points, labels=labels), labels

    def key_of(split: str, use: int) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), _common.split_word(split))
        return jax.random.fold_in(key, use)

    @jax.jit
    def drawn(key: Any, points: Any, potentials: Any, labels: Any) -> tuple[Any, Any]:
        key_x0, key_label = jax.random.split(key)
        x0 = source(key_x0, jnp.zeros((batch_size, *points.shape[1:]), points.dtype))
        given = jax.random.randint(key_label, (batch_size,), 0, len(points))
        # every process draws the noise of all, and looks for the rows of its own
        x0, given = x0[start:stop], given[start:stop]
        label = None if labels is None else labels[given]
        return x0, plans.assign(x0, points, potentials, label=label, labels=labels)

    def batch(split: str, step: int) -> Batch:
        _common.check_split(split, inner.splits)
        kept, *plan = fitted(split)
        x0, chosen = jax.device_get(drawn(jax.random.fold_in(key_of(split, 1), step), *plan))
        return jax.tree.map(lambda a: a[chosen], kept._replace(x0=None))._replace(x0=x0)

    return inner._replace(spec=spec, batch=batch, sample=None)


def _labels(cond: Any) -> Any:
    """One number a class, a class being a combination of integers; None without a condition."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(cond)]
    if not leaves:
        return None
    if not all(leaf.dtype.kind in "biu" for leaf in leaves):
        raise ValueError(
            f"semidiscrete transport keeps to classes, and the condition is "
            f"{', '.join(str(leaf.dtype) for leaf in leaves)}: use coupled with "
            "fmjax.couplings.conditional:continuous"
        )
    table = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    return jnp.asarray(np.unique(table, axis=0, return_inverse=True)[1].reshape(-1), jnp.int32)
