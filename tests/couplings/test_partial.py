import jax
import numpy as np
import ot
import pytest

from fmjax.couplings.exact import exact
from fmjax.couplings.partial import partial

KEY = jax.random.key(0)


def points(n=40):
    rng = np.random.default_rng(5)
    return rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) + 1


@pytest.mark.parametrize("mass", [0.25, 0.5, 0.8])
def test_the_matched_pairs_are_pots(mass):
    x0, x1 = points()
    rows = partial(KEY, x0, x1, mass=mass)
    pairs, times = np.unique(np.stack(rows), axis=1, return_counts=True)
    assert pairs.shape[1] == 40 * mass
    assert len(rows.x0) == 40
    assert set(times) <= {int(1 / mass), int(np.ceil(1 / mass))}
    assert all(len(set(side)) == 40 * mass for side in pairs)
    cost = ((x0[pairs[0]] - x1[pairs[1]]) ** 2).sum() / 40
    uniform = np.full(40, 1 / 40)
    theirs = ot.partial.partial_wasserstein2(uniform, uniform, ot.dist(x0, x1), m=mass)
    assert cost == pytest.approx(theirs, rel=1e-6)


def test_the_whole_mass_is_exact():
    x0, x1 = points()
    rows = partial(KEY, x0, x1, mass=1.0)
    order = np.argsort(rows.x1)
    assert (rows.x1[order] == np.arange(40)).all()
    assert (rows.x0[order] == exact(KEY, x0, x1).x0).all()


def test_outliers_are_left_out_and_the_order_is_the_keys():
    x0, x1 = points()
    x1[:10] += 100
    rows, again, other = (partial(jax.random.key(s), x0, x1, mass=0.75) for s in (0, 0, 1))
    assert rows.x1.min() == 10
    assert (rows.x1 == again.x1).all()
    assert (rows.x1 != other.x1).any()


@pytest.mark.parametrize("mass", [0.0, 0.001, 1.2])
def test_mass_outside_its_range_is_an_error(mass):
    with pytest.raises(ValueError, match=rf"mass={mass} of 40 rows: expected a share"):
        partial(KEY, *points(), mass=mass)
