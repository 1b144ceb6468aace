"""What all couplings have in common."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fmjax import sources
from fmjax.couplings import _common
from fmjax.couplings.blocks import blocks
from fmjax.couplings.conditional import classes, continuous
from fmjax.couplings.exact import exact
from fmjax.couplings.independent import independent
from fmjax.couplings.partial import partial
from fmjax.couplings.sinkhorn import sinkhorn
from fmjax.couplings.stable import stable
from fmjax.couplings.unbalanced import unbalanced
from fmjax.types import Batch, Rows

KEY = jax.random.key(0)
ENTROPIC = functools.partial(sinkhorn, epsilon=1.0)
HOST = {"exact": exact, "partial": functools.partial(partial, mass=0.75)}
TRACED = {
    "stable": stable,
    "sinkhorn": ENTROPIC,
    "unbalanced": functools.partial(unbalanced, epsilon=1.0),
}
PLAIN = HOST | TRACED
AWARE = {
    "classes": functools.partial(classes, coupling=stable),
    "continuous": lambda key, x0, x1, cond: continuous(
        key, x0, x1, jnp.asarray(cond, jnp.float32), coupling=stable
    ),
}


def examples(n=16, d=(2,)):
    rng = np.random.default_rng(0)
    x0, x1 = (rng.normal(size=(n, *d)).astype(np.float32) for _ in range(2))
    return x0, x1, rng.integers(0, 3, n).astype(np.int32)


@pytest.mark.parametrize("name", PLAIN | AWARE | {"independent": independent})
def test_rows_of_the_batch_for_any_shape_of_examples(name):
    coupling = (PLAIN | AWARE | {"independent": independent})[name]
    x0, x1, cond = examples(d=(2, 3))
    cond = cond if name in AWARE else None
    coupling = coupling if name in HOST else jax.jit(coupling)
    rows = coupling(KEY, x0, x1, cond)
    for got in rows:
        assert got.shape == (16,)
        assert (np.asarray(got) >= 0).all()
        assert (np.asarray(got) < 16).all()


@pytest.mark.parametrize("name", PLAIN)
def test_a_condition_that_is_ignored_warns(name):
    x0, x1, cond = examples()
    # an error here, where warnings are
    with pytest.raises(_common.SkewedCondition, match=f"{name} ignores the condition"):
        PLAIN[name](KEY, x0, x1, cond)


@pytest.mark.parametrize("name", AWARE)
def test_one_that_is_regarded_does_not(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.eval_shape(AWARE[name], KEY, *examples())


@pytest.mark.parametrize("name", HOST)
def test_plans_of_the_host_say_that_they_cannot_be_compiled(name):
    x0, x1, _ = examples()
    with pytest.raises(TypeError, match=rf"{name} is computed on the host.*coupled"):
        jax.jit(HOST[name])(KEY, x0, x1)


@pytest.mark.parametrize("name", ["stable", "sinkhorn", *AWARE])
def test_the_same_pairs_on_eight_devices(name):
    coupling = (TRACED | AWARE)[name]
    arrays = tuple(jnp.asarray(a) for a in examples())
    arrays = arrays if name in AWARE else (*arrays[:2], None)
    step = jax.jit(coupling)
    one = step(KEY, *arrays)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    eight = step(KEY, *jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data"))))
    for got, same in zip(one, eight, strict=True):
        assert (got == same).all()


@pytest.mark.parametrize("name", ["stable", "sinkhorn"])
def test_blocks_of_it_are_its_pairs_in_each_block(name):
    x0, x1, _ = (jnp.asarray(a) for a in examples())
    rows = jax.jit(functools.partial(blocks, coupling=TRACED[name], block=8))(KEY, x0, x1)
    keys = jax.random.split(KEY, 2)
    alone = jax.jit(TRACED[name])
    for i, half in enumerate([slice(0, 8), slice(8, 16)]):
        own = alone(keys[i], x0[half], x1[half])
        assert (rows.x0[half] == own.x0 + 8 * i).all()
        assert (rows.x1[half] == own.x1 + 8 * i).all()


def test_whole_examples_follow_their_rows():
    x0, x1, cond = examples()
    tree = {"class": cond, "first": x1[:, 0]}
    batch = Batch(jnp.asarray(x1), jax.tree.map(jnp.asarray, tree), weight=jnp.asarray(x1[:, 1]))

    def coupling(key, x0, x1, cond):
        return Rows(jnp.arange(16)[::-1], jnp.arange(16) // 2)

    source = lambda key, like: jnp.asarray(x0)  # noqa: E731
    kept = sources.pair(KEY, KEY, batch, source=source, coupling=coupling)
    assert (kept.x0 == x0[::-1]).all()
    twice = np.arange(16) // 2
    assert (kept.x1 == x1[twice]).all()
    assert (kept.cond["first"] == x1[twice, 0]).all()
    assert (kept.weight == x1[twice, 1]).all()
    assert (kept.cond["class"] == cond[twice]).all()


@pytest.mark.parametrize("xp", [np, jnp])
def test_systematic_draws_are_as_many_as_the_weights_say(xp):
    weights = xp.asarray([0.5, 0.0, 0.26, 0.24])
    rows = np.stack([_common.systematic(u, weights, 50) for u in np.linspace(0, 0.999, 40)])
    counts = np.stack([(rows == i).sum(axis=1) for i in range(4)], axis=1)
    assert (counts[:, :3] == [25, 0, 13]).all()
    assert (counts[:, 3] == 12).all()
    few = np.stack([_common.systematic(u, weights, 2) for u in np.linspace(0, 0.999, 100)])
    assert (few[:, 0] == 0).all()
    assert (few[:, 1] == 2).mean() == pytest.approx(0.52, abs=0.01)


def test_distances_of_the_host_and_traced_are_those_of_the_definition():
    x0, x1, _ = examples(d=(2, 3))
    direct = ((x0[:, None] - x1[None]) ** 2).sum((2, 3))
    np.testing.assert_allclose(_common.squared_distances(x0, x1), direct, rtol=1e-5)
    np.testing.assert_allclose(_common.squared_distances_jax(x0, x1), direct, rtol=1e-4)
