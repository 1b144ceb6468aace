import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import codecs, sources
from fmjax.data import toy
from fmjax.metrics.sampled_by import sampled_by
from fmjax.types import Batch, Info

DATA = toy.toy(functools.partial(toy.gaussian, mean=(5.0, 0.0)))


def shifted(net, key, x0, cond=None, *, by):
    return net(0.0, x0) + jnp.asarray([[by, 0.0]]), Info(jnp.asarray(int(by)))


SAMPLERS = {"good": functools.partial(shifted, by=5.0), "bad": functools.partial(shifted, by=0.0)}
OPTIONS = {"source": sources.normal, "codec": codecs.identity(), "samplers": SAMPLERS, "n": 200}


def never(n):
    raise AssertionError("the run's own sampler plays no part")


def test_each_sampler_is_judged_by_its_own_samples():
    net = lambda t, x, cond=None: x  # noqa: E731
    found = sampled_by(net, jax.random.key(0), DATA, never, **OPTIONS)
    assert found["bad_w2"] == pytest.approx(5, abs=0.3)
    assert found["good_w2"] < 0.6
    assert found["good_energy_distance"] < 0.1 < found["bad_energy_distance"]
    assert (found["good_nfe"], found["bad_nfe"]) == (5, 0)
    assert len(found) == 6
    # guidance maps the net
    away = lambda net: lambda t, x, cond=None: net(t, x) - 3  # noqa: E731
    guided = sampled_by(net, jax.random.key(0), DATA, never, guidance=away, **OPTIONS)
    assert guided["good_w2"] > 3


def test_conditions_of_the_split_are_given():
    data = toy.toy(lambda key, n: Batch(jnp.zeros((n, 1)), jnp.arange(n) % 3))

    def sampler(net, key, x0, cond):
        return jnp.zeros_like(x0) + cond[:, None], Info(jnp.asarray(1))

    options = {**OPTIONS, "samplers": {"s": sampler}, "n": 30}
    found = sampled_by(lambda t, x, cond: x, jax.random.key(0), data, never, **options)
    np.testing.assert_allclose(found["s_w2"], np.sqrt((0 + 1 + 4) / 3), rtol=1e-5)
