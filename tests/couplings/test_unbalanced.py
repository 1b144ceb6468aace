import functools

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest

from fmjax.couplings import _common
from fmjax.couplings.sinkhorn import log_plan
from fmjax.couplings.unbalanced import unbalanced

KEY = jax.random.key(0)
EPSILON, RHO = 0.5, 2.0
TAU = RHO / (RHO + EPSILON)


def points(n=8):
    """Two clouds, whose last data row lies far out."""
    rng = np.random.default_rng(4)
    x0, x1 = rng.normal(size=(2, n, 2)).astype(np.float32)
    x1[-1] = 6.0
    return x0, x1


def pots_plan(rho_x1, rho_x0):
    """POT's plan (rows x1, columns x0) for uniform rows, as shares of its mass."""
    x0, x1 = points()
    plan = ot.unbalanced.sinkhorn_unbalanced(
        [], [], _common.squared_distances(x1, x0), EPSILON, (rho_x1, rho_x0), stopThr=1e-9
    )
    return plan / plan.sum()


def test_its_plan_is_pots():
    x0, x1 = points()
    cost = jnp.asarray(_common.squared_distances(x1, x0), jnp.float32)
    options = {"epsilon": EPSILON, "threshold": 1e-6, "max_iterations": 5000}
    plan = np.exp(log_plan(cost, tau=(TAU, TAU), **options))
    np.testing.assert_allclose(plan / plan.sum(), pots_plan(RHO, RHO), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("tau_x0", "rho_x0"), [(TAU, RHO), (1.0, np.inf)], ids=["both", "source kept"]
)
def test_pairs_are_drawn_from_the_whole_plan(tau_x0, rho_x0):
    coupling = functools.partial(unbalanced, epsilon=EPSILON, tau_x0=tau_x0, tau_x1=TAU)
    many = jax.jit(jax.vmap(coupling, in_axes=(0, None, None)))
    rows = many(jax.random.split(KEY, 4000), *points())
    shares = np.bincount(np.ravel(rows.x1 * 8 + rows.x0), minlength=64).reshape(8, 8) / 32_000
    np.testing.assert_allclose(shares, pots_plan(RHO, rho_x0), atol=0.01)
    # what lies far out fades
    assert shares[-1].sum() < 0.03
    kept = np.abs(shares.sum(0) - 1 / 8).max() < 0.01
    assert kept == (tau_x0 == 1.0)


@pytest.mark.parametrize("name", ["tau_x0", "tau_x1"])
@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_tau_outside_its_range_is_an_error(name, tau):
    with pytest.raises(ValueError, match=rf"{name}={tau}: expected above 0, up to 1"):
        unbalanced(KEY, *points(), epsilon=1.0, **{name: tau})
