import functools

import jax.numpy as jnp
import pytest

from fmjax import codecs
from fmjax.data import toy
from fmjax.metrics import coupling_cost
from fmjax.types import Rows


def line(key, n):
    return toy.gaussian(key, n, mean=(4.0, 0.0))[:, :1]


DATA = toy.toy(line)


def ordered(key, x0, x1, cond):
    """The optimal plan on a line."""
    return Rows(jnp.argsort(x0[:, 0]), jnp.argsort(x1[:, 0]))


def test_the_optimal_plan_saves_all_and_chance_nothing(key):
    cost = functools.partial(coupling_cost.coupling_cost, None, key, DATA, None, batches=8)
    best, chance = cost(coupling=ordered), cost()
    assert best["coupling_saving"] == pytest.approx(1, abs=1e-5)
    assert best["coupling_cost"] == pytest.approx(best["coupling_cost_exact"], rel=1e-5)
    # N(0, 1) and N(4, 1): 16 + 2 by chance, 16 by the plan, which samples exceed a little
    assert best["coupling_cost_independent"] == pytest.approx(18, rel=0.05)
    assert best["coupling_cost"] == pytest.approx(16, rel=0.05)
    assert chance["coupling_saving"] == pytest.approx(0, abs=0.2)
    assert chance["coupling_cost_exact"] == pytest.approx(best["coupling_cost_exact"], rel=1e-6)
    assert best["coupling_cost_n"] == 256


def test_costs_are_those_of_model_space(key):
    options = {"batches": 2, "batch_size": 64, "source": lambda key, like: like * 0}
    raw = coupling_cost.coupling_cost(None, key, DATA, None, **options)
    half = coupling_cost.coupling_cost(
        None, key, DATA, None, codec=codecs.Codec(lambda x: x / 2, lambda z: 2 * z), **options
    )
    assert raw["coupling_cost"] == pytest.approx(4 * half["coupling_cost"], rel=1e-5)
