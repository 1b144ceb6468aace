import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from fmjax import shard, train
from fmjax.losses.flow_matching import flow_matching
from fmjax.models.mlp import mlp
from fmjax.types import Batch

MODEL, TX = mlp(width=16, depth=1), optax.adam(1e-2)
ROWS = np.random.default_rng(0).normal(size=(100, 64, 2)).astype(np.float32) + 1
KEY = jax.random.key(0)


def init(key):
    return train.init(MODEL, TX, key, Batch(jnp.zeros((1, 2))), ema=(0.9,))


def curve(parallel, objective=flow_matching, steps=100, per_call=25, **options):
    step = train.make_step(
        MODEL, objective, TX, ema=(0.9,), axis_name=parallel.axis_name, **options
    )
    call = parallel.compile(train.repeat(step, per_call))
    state, losses = parallel.init(init, KEY), []
    for i in range(0, steps, per_call):
        state, metrics = call(state, None, KEY, parallel.put(Batch(ROWS[i : i + per_call]), 1))
        losses.append(metrics["loss"])
    return state, np.concatenate(losses)


@functools.cache
def alone():
    return curve(shard.jit(devices=1))


@pytest.mark.parametrize(
    "parallel",
    [
        shard.jit(devices=2),
        pytest.param(shard.jit(devices=4), marks=pytest.mark.complete),
        shard.jit(),
        shard.jit(fsdp=4),
    ],
    ids=["2", "4", "8", "2 × 4 fsdp"],
)
def test_the_curve_does_not_depend_on_the_devices(parallel):
    state, losses = curve(parallel)
    np.testing.assert_allclose(losses, alone()[1], atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), state.params, alone()[0].params
    )


def test_nor_with_batches_drawn_inside_the_step():
    def run(parallel):
        draw = lambda key: parallel.constrain(Batch(jax.random.normal(key, (64, 2))))  # noqa: E731
        step = train.make_step(MODEL, flow_matching, TX, ema=(0.9,), draw=draw)
        call = parallel.compile(train.repeat(step, 20))
        return call(parallel.init(init, KEY), None, KEY, None)[1]["loss"]

    np.testing.assert_allclose(run(shard.jit()), run(shard.jit(devices=1)), atol=1e-5)


def regress(nets, key, batch):
    return jnp.mean((nets.online(0.5, batch.x1) - 1) ** 2, axis=1), {}


@pytest.mark.parametrize("weight", [None, np.arange(64, dtype=np.float32)[None]])
def test_pmap_has_the_gradient_of_jit_for_a_deterministic_objective(weight):
    sgd, states = optax.sgd(1.0), []

    def start(key):
        return train.init(MODEL, sgd, key, Batch(jnp.zeros((1, 2))), ema=(0.9,))

    for parallel in (shard.jit(), shard.pmap()):
        step = train.make_step(MODEL, regress, sgd, ema=(0.9,), axis_name=parallel.axis_name)
        call = parallel.compile(train.repeat(step, 1))
        batch = parallel.put(Batch(ROWS[:1], weight=weight), 1)
        states.append(call(parallel.init(start, KEY), None, KEY, batch)[0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *states)


def test_pmap_devices_draw_different_noise_and_agree_on_the_state():
    parallel, seen = shard.pmap(), []

    def objective(nets, key, batch):
        noise = jax.random.normal(key, batch.x1.shape)
        jax.debug.callback(lambda x: seen.append(x[0].tolist()), noise)
        return flow_matching(nets, key, batch)

    state, losses = curve(parallel, objective, steps=1, per_call=1)
    jax.effects_barrier()
    assert len({tuple(x) for x in seen}) == 8
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    assert np.isfinite(losses).all()


def test_pmap_learns_what_jit_learns():
    pmapped, jitted = curve(shard.pmap())[1], alone()[1]
    assert abs(pmapped[-25:].mean() - jitted[-25:].mean()) < 0.1 * jitted[:5].mean()


def test_large_leaves_are_divided_over_fsdp_and_small_ones_copied():
    mesh = shard.make_mesh(jax.devices(), fsdp=4)
    like = {
        "kernel": jax.ShapeDtypeStruct((512, 1024), jnp.float32),
        "odd": jax.ShapeDtypeStruct((511, 1023), jnp.float32),
        "bias": jax.ShapeDtypeStruct((1024,), jnp.float32),
    }
    specs = jax.tree.map(lambda s: s.spec, shard.state_sharding(mesh, like))
    assert specs == {
        "kernel": PartitionSpec(None, "fsdp"),
        "odd": PartitionSpec(),
        "bias": PartitionSpec(),
    }


def test_fsdp_keeps_a_share_of_the_state_on_each_device():
    big, parallel = mlp(width=512, depth=2), shard.jit(fsdp=8)
    state = parallel.init(
        lambda k: train.init(big, TX, k, Batch(jnp.zeros((1, 2))), ema=(0.9,)), KEY
    )
    step = train.make_step(big, flow_matching, TX, ema=(0.9,))
    state, _ = parallel.compile(train.repeat(step, 1))(
        state, None, KEY, parallel.put(Batch(ROWS[:1]), 1)
    )
    sizes = [
        x.addressable_shards[0].data.size / x.size for x in jax.tree.leaves(state) if x.size > 2**16
    ]
    assert sizes
    assert set(sizes) == {1 / 8}


def shapes(x):
    return {piece.data.shape for piece in x.addressable_shards}


@pytest.mark.parametrize("parallel", [shard.jit(), shard.jit(fsdp=4)], ids=["8", "2 × 4 fsdp"])
def test_rows_are_divided_over_all_devices(parallel):
    rows = np.arange(96.0).reshape(3, 16, 2)
    batch = parallel.put(Batch(rows), 1).x1
    np.testing.assert_array_equal(batch, rows)
    assert shapes(batch) == {(3, 2, 2)}
    drawn = jax.jit(lambda key: parallel.constrain(Batch(jax.random.normal(key, (16, 2)))))(KEY)
    assert shapes(drawn.x1) == {(2, 2)}


def test_each_pmapped_device_has_its_rows_of_every_step():
    rows = np.arange(96.0).reshape(3, 16, 2)
    batch = shard.pmap().put(Batch(rows), 1).x1
    np.testing.assert_array_equal(batch, np.stack(np.split(rows, 8, axis=1)))


def test_the_memory_of_a_state_is_given_to_the_next():
    parallel = shard.jit()
    step = train.make_step(MODEL, regress, TX, ema=(0.9,))
    state, batch = parallel.init(init, KEY), parallel.put(Batch(ROWS[:1]), 1)
    parallel.compile(train.repeat(step, 1))(state, None, KEY, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_wrong_numbers_of_devices_and_rows_are_named():
    with pytest.raises(ValueError, match="JAX sees 8"):
        shard.jit(devices=9)
    with pytest.raises(ValueError, match="fsdp=3"):
        shard.jit(fsdp=3)
    with pytest.raises(ValueError, match="choose 96 or 112"):
        shard.check_batch(100, 8, 2)
    with pytest.raises(ValueError, match=r"choose 8$"):
        shard.check_batch(4, 8)
    shard.check_batch(64, 8, 2)
