"""Exact outputs of couplings: the rows that each pairs, of two fixed clouds with conditions."""

import functools
from functools import partial as bound

import jax
import jax.numpy as jnp
import numpy as np
from helpers import golden_store

from fmjax import sources
from fmjax.couplings import (
    blocks,
    conditional,
    exact,
    independent,
    partial,
    semidiscrete,
    sinkhorn,
    stable,
    unbalanced,
)

KEY = jax.random.key(3)
ROWS = 16


def entries():
    """Name -> what computes it; on the host where the coupling is one of the host."""
    host, traced = bound(paired, traced=False), bound(paired, traced=True)
    blocked = bound(blocks.blocks, block=4)
    dial = bound(conditional.constant, value=2.0)
    classes = bound(conditional.classes, coupling=exact.exact)
    values = bound(conditional.continuous, coupling=exact.exact)
    return {
        "independent/traced": bound(traced, independent.independent),
        "exact/host": bound(host, exact.exact),
        "partial/host": bound(host, bound(partial.partial, mass=0.5)),
        "sinkhorn/traced": bound(traced, bound(sinkhorn.sinkhorn, epsilon=0.5)),
        "stable/traced": bound(traced, stable.stable),
        "unbalanced/traced": bound(traced, bound(unbalanced.unbalanced, epsilon=0.5, tau_x1=0.7)),
        "blocks/host": bound(host, bound(blocked, coupling=exact.exact)),
        "blocks/traced": bound(traced, bound(blocked, coupling=stable.stable)),
        "conditional/classes_host": bound(host, classes, cond=labels()),
        "conditional/classes_traced": bound(
            traced, bound(classes, coupling=stable.stable), cond=labels()
        ),
        "conditional/continuous_host": bound(host, values, cond=heights()),
        "conditional/continuous_traced": bound(
            traced, bound(values, coupling=stable.stable), cond=heights()
        ),
        "conditional/continuous_constant": bound(host, bound(values, weight=dial), cond=heights()),
        "semidiscrete/fit": bound(fitted, labelled=False),
        "semidiscrete/fit_labelled": bound(fitted, labelled=True),
    }


@functools.cache
def clouds():
    """x0 and x1 `[16, 2]`."""
    x0, x1 = np.random.default_rng(11).normal(size=(2, ROWS, 2)).astype(np.float32)
    return x0, x1 + np.float32(1)


def labels():
    return (np.arange(ROWS) % 3).astype(np.int32)


def heights():
    return clouds()[1][:, :1] ** 2


def paired(coupling, *, traced, cond=None):
    """Pairs of rows: of host arrays as they are, or of traced ones."""
    pairs = (jax.jit(coupling) if traced else coupling)(KEY, *clouds(), cond)
    # whatever whole numbers they are, and in the order of the pairs
    return {"rows": golden_store.digest([np.stack(pairs, axis=1).astype(np.int64)])}


def fitted(*, labelled):
    """Potentials, the points that they assign noise to, and what goes astray."""
    own = jnp.asarray(labels()) if labelled else None

    @jax.jit
    def plan(x0, points):
        options = {"source": sources.normal, "labels": own}
        g = semidiscrete.fit(KEY, points, steps=50, batch=16, **options)
        astray = semidiscrete.imbalance(KEY, points, g, rounds=5, batch=16, **options)
        return g, semidiscrete.assign(x0, points, g, label=own, labels=own), astray

    potentials, rows, astray = jax.device_get(plan(*clouds()))
    return {
        "rows": golden_store.digest([rows.astype(np.int64)]),
        "potentials": golden_store.digest([potentials]),
        "imbalance": golden_store.exact(astray),
    }
