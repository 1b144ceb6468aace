import jax
import jax.numpy as jnp

from fmjax.couplings.independent import independent


def test_everyone_stays_where_they_are_with_a_condition_too():
    x = jnp.zeros((5, 2))
    rows = independent(jax.random.key(0), x, x, jnp.arange(5))
    assert rows.x0.tolist() == rows.x1.tolist() == [0, 1, 2, 3, 4]
