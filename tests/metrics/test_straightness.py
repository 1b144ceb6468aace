import functools

import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.metrics import straightness
from fmjax.samplers.ode import ode


def ones(key, like):
    return jnp.ones_like(like)


def test_a_constant_field_is_straight_and_growth_is_not(key, normal):
    def found(net):
        return straightness.straightness(net, key, normal, None, n=10, source=ones)

    out = found(lambda t, x, cond: jnp.full_like(x, 3.0))
    assert out["straightness"] == pytest.approx(0, abs=1e-3)
    assert out["straightness_relative"] == pytest.approx(0, abs=1e-4)
    assert out["straightness_n"] == 10
    # x(t) = exp(t) in each of two numbers: 2 ((e² - 1) / 2 - (e - 1)²)
    out = found(lambda t, x, cond: x)
    exact, distance = 2 * ((np.e**2 - 1) / 2 - (np.e - 1) ** 2), 2 * (np.e - 1) ** 2
    assert out["straightness"] == pytest.approx(exact, rel=1e-3)
    assert out["straightness_relative"] == pytest.approx(exact / distance, rel=1e-3)
    assert out["straightness_rtol"] == 1e-5
    assert out["straightness_nfe"] > 7


def test_conditions_and_steps_are_used(key, make_data):
    rows = np.zeros((6, 2), np.float32)
    data = make_data({"train": (rows, None), "test": (rows, np.arange(6, dtype=np.float32))})
    out = straightness.straightness(
        lambda t, x, cond: x * 0 + cond[:, None] * t,
        key,
        data,
        None,
        source=ones,
        solve=functools.partial(ode, rtol=1e-6, atol=1e-6),
    )
    # 2 c² (1/3 - 1/4), averaged over c = 0 … 5
    assert out["straightness"] == pytest.approx(55 / 6 * 2 / 12, rel=1e-3)
    assert out["straightness_n"] == 6
