import jax
import numpy as np
import ot
import pytest

from fmjax.couplings import _common
from fmjax.couplings.exact import exact

KEY = jax.random.key(0)


def test_its_cost_is_that_of_pots_plan():
    rng = np.random.default_rng(1)
    x0, x1 = rng.normal(size=(64, 3)), rng.normal(size=(64, 3)) + 1
    rows = exact(KEY, x0, x1)
    assert sorted(rows.x0) == list(range(64))
    assert (rows.x1 == np.arange(64)).all()
    cost = ((x0[rows.x0] - x1[rows.x1]) ** 2).sum(1).mean()
    assert cost == pytest.approx(ot.emd2([], [], ot.dist(x0, x1)), rel=1e-9)


def test_in_one_dimension_it_sorts():
    rng = np.random.default_rng(2)
    x0, x1 = rng.normal(size=(32, 1)), rng.normal(size=(32, 1))
    rows = exact(KEY, x0, x1)
    assert (np.argsort(x1[:, 0])[np.argsort(np.argsort(x0[:, 0]))[rows.x0]] == rows.x1).all()


def test_another_cost_gives_another_plan():
    x0, x1 = np.array([[0.0], [1.0]]), np.array([[0.1], [1.1]])
    assert exact(KEY, x0, x1).x0.tolist() == [0, 1]
    far = exact(KEY, x0, x1, cost=lambda a, b: -_common.squared_distances(a, b))
    assert far.x0.tolist() == [1, 0]
