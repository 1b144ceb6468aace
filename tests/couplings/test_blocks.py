import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.couplings.blocks import blocks
from fmjax.couplings.stable import stable
from fmjax.types import Rows

KEY = jax.random.key(0)


def test_a_block_of_all_rows_is_the_coupling_itself():
    x0, x1 = jax.random.normal(KEY, (2, 12, 2))
    rows = blocks(KEY, x0, x1, coupling=stable, block=12)
    assert (rows.x0 == stable(KEY, x0, x1).x0).all()


def test_a_block_does_not_see_the_others():
    x0, x1 = jax.random.normal(KEY, (2, 12, 2))
    here = blocks(KEY, x0, x1, coupling=stable, block=4)
    there = blocks(KEY, x0.at[4:].add(9), x1.at[4:].mul(-3), coupling=stable, block=4)
    assert (here.x0[:4] == there.x0[:4]).all()
    assert (here.x1 == jnp.arange(12)).all()
    assert (np.sort(np.reshape(here.x0, (3, 4))) == np.reshape(np.arange(12), (3, 4))).all()


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
        blocks(KEY, x, x, coupling=stable, block=block)
