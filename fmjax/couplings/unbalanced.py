"""Unbalanced entropic optimal transport inside the step: outliers may stay unpaired."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fmjax.couplings import _common
from fmjax.couplings.sinkhorn import log_plan
from fmjax.types import PRNGKey, Rows


def unbalanced(
    key: PRNGKey,
    x0: _common.Examples,
    x1: _common.Examples,
    cond: Any = None,
    *,
    epsilon: float | int,
    tau_x0: float = 0.95,
    tau_x1: float = 0.95,
    threshold: float = 1e-3,
    max_iterations: int = 2000,
    cost: Callable[..., _common.Costs] = _common.squared_distances_jax,
) -> Rows:
    """b pairs from argmin Σ π·cost + epsilon Σ π log π + ρ₀ KL(π_x0 | 1/b) + ρ₁ KL(π_x1 | 1/b).

    tau_x0, tau_x1: ρ / (ρ + epsilon) in (0, 1]; 1 keeps that marginal, as `sinkhorn` does both.
        A row farther than about ρ = epsilon·tau / (1 − tau) from the other set fades.
    epsilon, threshold and the lack of convergence: as in `sinkhorn`.

    Both marginals change: some rows come twice, some never, and the model learns the reweighted
    data, p1·exp(−g/ρ₁), from a reweighted source. Samples start from the whole source, so keep
    tau_x0 = 1 unless that is wanted. Not for clean, balanced data: `exact` or `sinkhorn`.
    Chizat et al. 2018 (1607.05816); Eyring et al. 2023 (2311.15100).
    """
    for name, tau in (("tau_x0", tau_x0), ("tau_x1", tau_x1)):
        if not 0 < tau <= 1:
            raise ValueError(f"{name}={tau}: expected above 0, up to 1, which keeps the marginal")
    _common.warn_if_conditional("unbalanced", cond)
    plan = log_plan(
        cost(jnp.asarray(x1), jnp.asarray(x0)),
        epsilon=epsilon,
        threshold=threshold,
        max_iterations=max_iterations,
        tau=(tau_x1, tau_x0),
    )
    key_x1, key_x0 = jax.random.split(key)
    weights = jax.nn.softmax(jax.nn.logsumexp(plan, axis=1))
    rows = _common.systematic(jax.random.uniform(key_x1), weights, len(x1))
    return Rows(jax.random.categorical(key_x0, plan[rows], axis=1), rows)
