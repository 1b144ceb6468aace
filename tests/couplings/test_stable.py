import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.couplings import _common
from fmjax.couplings.stable import stable

KEY = jax.random.key(0)


def greedy(cost):
    """The nearest pair, then the nearest of the rest, …"""
    cost, match = np.array(cost), np.full(len(cost), -1)
    for _ in match:
        i, j = np.unravel_index(cost.argmin(), cost.shape)
        match[i], cost[i], cost[:, j] = j, np.inf, np.inf
    return match


@pytest.mark.parametrize("d", [1, 2, 16])
def test_no_pair_blocks_and_it_is_the_greedy_matching(d):
    x0, x1 = jax.random.normal(jax.random.key(d), (2, 64, d))
    rows = jax.jit(stable)(KEY, x0, x1)
    assert sorted(rows.x0.tolist()) == list(range(64))
    assert (rows.x1 == jnp.arange(64)).all()
    cost = np.asarray(_common.squared_distances_jax(x1, x0))
    mine = cost[np.arange(64), rows.x0]
    theirs = mine[np.argsort(rows.x0)]  # what each x0 has
    assert not ((cost < mine[:, None]) & (cost < theirs[None])).any()
    assert (np.asarray(rows.x0) == greedy(cost)).all()


def test_equal_distances_make_a_permutation_too():
    x = jnp.repeat(jnp.arange(4.0), 4)[:, None]
    rows = stable(KEY, x, x[::-1])
    assert sorted(rows.x0.tolist()) == list(range(16))
    assert (x[rows.x0] == x[::-1]).all()


def test_it_ends_on_what_is_not_finite():
    x0 = jax.random.normal(KEY, (8, 2)).at[3].set(jnp.nan)
    rows = stable(KEY, x0, x0[::-1])
    assert (rows.x0 >= 0).all()
    assert (rows.x0 < 8).all()


def test_another_cost_gives_another_matching():
    x0, x1 = jnp.array([[0.0], [1.0]]), jnp.array([[0.1], [1.1]])
    assert stable(KEY, x0, x1).x0.tolist() == [0, 1]
    far = stable(KEY, x0, x1, cost=lambda a, b: -_common.squared_distances_jax(a, b))
    assert far.x0.tolist() == [1, 0]
