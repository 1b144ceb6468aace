import functools

import compiled
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import codecs, sources
from fmjax.data import toy
from fmjax.data.in_memory import in_memory
from fmjax.metrics import _flows
from fmjax.samplers.ode import ode
from fmjax.types import Batch, Rows

OPTIONS = {"batches": 2, "batch_size": 8, "source": sources.normal, "coupling": None}
HALF = codecs.affine(low=0.0, high=4.0)


def ordered(key, x0, x1, cond):
    return Rows(jnp.argsort(x0[:, 0]), jnp.argsort(x1[:, 0]))


def test_pairs_of_a_stored_set_are_its_first_training_batches(key):
    x1 = np.arange(24.0, dtype=np.float32).reshape(12, 2)
    data = in_memory({"train": Batch(x1, np.arange(12))}, batch_size=6, seed=3)
    pairs = list(_flows.training_pairs(key, data, codec=HALF, **OPTIONS))
    assert len(pairs) == 2
    for step, pair in enumerate(pairs):
        raw = data.batch("train", step)
        np.testing.assert_allclose(pair.x1, raw.x1 / 2 - 1)
        np.testing.assert_array_equal(pair.cond, raw.cond)
    assert pairs[0].x0.shape == (6, 2)
    assert not np.array_equal(pairs[0].x0, pairs[1].x0)


def test_couplings_permute_whole_rows(key):
    data = in_memory({"train": Batch(np.arange(8.0)[::-1, None], np.arange(8)[::-1])}, batch_size=8)
    options = OPTIONS | {"coupling": ordered, "batches": 1}
    (pair,) = _flows.training_pairs(key, data, codec=codecs.identity(), **options)
    np.testing.assert_array_equal(pair.x1[:, 0], np.arange(8))
    np.testing.assert_array_equal(pair.cond, np.arange(8))
    assert np.all(np.diff(pair.x0[:, 0]) > 0)


def test_noise_of_the_data_is_kept(key):
    data = toy.toy(toy.gaussian, x0=functools.partial(toy.gaussian, mean=(50.0, 50.0)))
    (pair,) = _flows.training_pairs(key, data, codec=codecs.identity(), **OPTIONS | {"batches": 1})
    assert pair.x1.shape == (8, 2)
    assert pair.x0.min() > 40
    with pytest.raises(ValueError, match="batches=0"):
        list(_flows.training_pairs(key, data, codec=HALF, **OPTIONS | {"batches": 0}))


def test_one_compilation_serves_all_parameters(key, normal):
    def apply(params, t, x, cond=None):
        return params * jnp.ones_like(x)

    options = {"split": "test", "source": sources.normal, "codec": codecs.identity(), "solve": ode}
    for speed, compiles in ((1.0, True), (3.0, False)):
        net = functools.partial(apply, jnp.asarray(speed))
        with compiled.programs() as found:
            x0, x1, energy, nfe = _flows.travelled(net, key, normal, 20, **options)
        assert bool(found) == compiles
        np.testing.assert_allclose(x1 - x0, speed, rtol=1e-4)
        np.testing.assert_allclose(energy, 2 * speed**2, rtol=1e-4)
        assert nfe >= 7
    with pytest.raises(ValueError, match="20 of 20 rows are not finite"):
        _flows.travelled(functools.partial(apply, jnp.asarray(jnp.nan)), key, normal, 20, **options)


def test_what_a_solve_depends_on():
    assert _flows.solved_by(ode, "nll") == {"nll_rtol": 1e-5, "nll_atol": 1e-5}
    assert _flows.solved_by(functools.partial(ode, steps=7), "x") == {"x_steps": 7.0}
    assert _flows.solved_by(functools.partial(ode, rtol=0.1), "x")["x_rtol"] == 0.1
    assert _flows.solved_by(lambda net, key, x0, cond: None, "x") == {}
