import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.couplings.blocks import blocks
from fmjax.couplings.exact import exact
from fmjax.types import Rows

KEY = jax.random.key(0)


def ranked(key, x0, x1, cond=None):
    """The least with the least, by the first coordinate."""
    return Rows(jnp.argsort(x0[:, 0]), jnp.argsort(x1[:, 0]))


def test_a_block_of_all_rows_is_the_coupling_itself():
    x0, x1 = jax.random.normal(KEY, (2, 12, 2))
    rows = blocks(KEY, x0, x1, coupling=ranked, block=12)
    assert (rows.x0 == ranked(KEY, x0, x1).x0).all()
    assert (rows.x1 == ranked(KEY, x0, x1).x1).all()


def test_a_block_does_not_see_the_others():
    x0, x1 = jax.random.normal(KEY, (2, 12, 2))
    here = blocks(KEY, x0, x1, coupling=ranked, block=4)
    there = blocks(KEY, x0.at[4:].add(9), x1.at[4:].multiply(-3), coupling=ranked, block=4)
    assert (here.x0[:4] == there.x0[:4]).all()
    assert (here.x0[4:] != there.x0[4:]).any() or (here.x1[4:] != there.x1[4:]).any()
    for rows in here:
        assert (np.sort(np.reshape(rows, (3, 4))) == np.reshape(np.arange(12), (3, 4))).all()


def test_each_block_gets_its_condition_and_a_key_of_its_own():
    def coupling(key, x0, x1, cond):
        return Rows(jax.random.randint(key, (4,), 0, 4), cond["row"])

    cond = {"row": jnp.tile(jnp.array([3, 2, 1, 0]), 3)}
    x = jnp.zeros((12, 2))
    rows = blocks(KEY, x, x, cond, coupling=coupling, block=4)
    assert rows.x1.tolist() == [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]
    own = rows.x0.reshape(3, 4) - 4 * jnp.arange(3)[:, None]
    assert len({tuple(r) for r in own.tolist()}) == 3


@pytest.mark.parametrize("block", [5, 0, 24])
def test_a_block_that_does_not_divide_the_rows_is_an_error(block):
    x = jnp.zeros((12, 2))
    with pytest.raises(ValueError, match=f"12 rows do not divide into blocks of {block}"):
        blocks(KEY, x, x, coupling=ranked, block=block)


def test_blocks_of_host_arrays_are_coupled_on_the_host():
    x0, x1 = np.random.default_rng(0).normal(size=(2, 12, 2)).astype(np.float32)
    here = blocks(KEY, x0, x1, coupling=exact, block=4)
    assert isinstance(here.x0, np.ndarray)
    for i in range(0, 12, 4):
        alone = exact(KEY, x0[i : i + 4], x1[i : i + 4])
        np.testing.assert_array_equal(here.x0[i : i + 4], alone.x0 + i)
        np.testing.assert_array_equal(here.x1[i : i + 4], alone.x1 + i)
