import functools

import diffrax
import jax.numpy as jnp
import pytest

from fmjax import codecs
from fmjax.metrics import path_energy
from fmjax.samplers.ode import ode

SHIFT = jnp.asarray([3.0, 4.0]) / 10


def moved_back(key, like):
    return like - SHIFT.reshape(1, 1, 2)


def drift(speed, t, x, cond=None):
    return x * 0 + speed * SHIFT.reshape(1, 1, 2)


@pytest.mark.parametrize(("speed", "excess"), [(1.0, 0.0), (2.0, 3.0)])
def test_a_shift_costs_its_square_and_a_detour_more(key, normal, speed, excess):
    net = functools.partial(drift, speed)
    out = path_energy.path_energy(net, key, normal, None, n=50, source=moved_back)
    assert out["path_energy"] == pytest.approx(0.25 * speed**2, rel=1e-4)
    assert out["path_energy_w2_squared"] == pytest.approx(0.25, rel=1e-4)
    assert out["path_energy_normalised"] == pytest.approx(excess, abs=1e-3)
    assert (out["path_energy_n"], out["path_energy_rtol"]) == (50, 1e-5)


def test_the_codecs_space_is_measured(key, normal):
    out = path_energy.path_energy(
        functools.partial(drift, 1.0),
        key,
        normal,
        None,
        n=50,
        source=moved_back,
        codec=codecs.affine(low=-20.0, high=20.0),
        solve=functools.partial(ode, solver=diffrax.Euler(), steps=2),
    )
    assert out["path_energy_normalised"] == pytest.approx(0, abs=1e-3)
