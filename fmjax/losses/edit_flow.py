"""Edit flows: the divergence of rates of insertions, deletions and substitutions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax import edits, paths, sources, times, tokens
from fmjax.losses import _common
from fmjax.types import Batch, Metrics, Nets, PRNGKey, Rows


def edit_flow(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    source: Callable[..., Any],
    end: int | None,
    path: paths.Path = paths.linear(),
    align: edits.Align = edits.left,
    sample_t: Callable[[PRNGKey, int], Float[Array, " b"]] = times.stratified,
    coupling: Callable[..., Rows] | None = None,
    null: Any = None,
    drop: _common.Drop = 0.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """κ'/(1 − κ) [Σ u − Σ_j (1 + log u_j − log n_j)]/n over all edits, and the places j left to do.

    u: the net's `edits.Edits` at x_t; u_j: of the edit that place j of z_t waits for, and n_j how
    many wait for that same one. Pairs (x0, x1) are aligned by `align`; the minimiser is the rate
    of x_t, whatever the alignment, and the edits that it needs are not the same ones.

    With t uniform its expectation bounds −log p(x1 | x0)/n from above, in nats for each of the n
    places of a row, ends included, as the other bounds of tokens do. Where x0 is empty and no x1
    has a token twice it is, for the exact net, the entropy; elsewhere it is above that.
    `sample_t`: keep it below 1, as the factor is infinite there.
    Metrics: the edits left to do, and how many the net expects. ValueError: no end.
    Havasi et al. 2025 (2506.09018), eq. 23, and the terms without u that make it a divergence.
    """
    if end is None:
        raise ValueError("end=None: edits need texts that end; give config.codec end=True")
    key_x0, key_t, key_align, key_jump, key_drop, key_net, key_pair = jax.random.split(key, 7)
    batch = sources.pair(key_x0, key_pair, batch, source=source, coupling=coupling)
    t, n = sample_t(key_t, batch.x1.shape[0]), batch.x1.shape[1]
    z0, z1 = align(key_align, batch.x0, batch.x1, end=end)
    z = tokens.mixture(path=path).sample(key_jump, t, z0, z1)
    cond = _common.drop_condition(key_drop, batch.cond, null, drop)
    found = nets.online(t, edits.compact(z, end=end, width=n), cond, key=key_net)
    _check(found, batch.x1)

    log_u = edits.flat(found).astype(jnp.float32)
    left = edits.waiting(z, z1, end=end, vocabulary=found.insert.shape[-1], width=n)
    own = jnp.take_along_axis(log_u, left.edit, axis=1) - jnp.log(_alike(left, log_u.shape[1]))
    expected, count = jnp.exp(log_u).sum(axis=1), left.waits.sum(axis=1).astype(jnp.float32)
    apart = expected - jnp.where(left.waits, 1 + own, 0.0).sum(axis=1)
    loss = tokens.hazard(t, path=path) * apart / n
    return loss, {"edits_left": count, "edits_expected": expected}


def _alike(left: edits.Waiting, m: int) -> Float[Array, "b k"]:
    """How many places wait for the same edit, such as one of two equal tokens in one gap."""

    def one(edit: Array, waits: Array) -> Array:
        return jnp.zeros(m).at[edit].add(waits.astype(jnp.float32))[edit]

    return jnp.maximum(jax.vmap(one)(*left), 1.0)


def _check(found: Any, x: Array) -> None:
    if not isinstance(found, edits.Edits) or found.delete.shape != x.shape:
        shapes = jax.tree.map(jnp.shape, found)
        raise ValueError(
            f"the net returned {shapes} for tokens of shape {x.shape}: expected edits.Edits, of "
            "each place, such as models.edit_transformer gives"
        )
