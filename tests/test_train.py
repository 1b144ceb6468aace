import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_models
from optax import contrib

from fmjax import optimizers, train
from fmjax.losses.flow_matching import flow_matching
from fmjax.models.mlp import mlp
from fmjax.types import Batch, Model

LINEAR = Model(
    lambda key, batch: {"w": jnp.ones(batch.x1.shape[1]), "b": jnp.zeros(())},
    lambda params, t, x, cond=None, *, key=None: x * params["w"][None] + params["b"],
)
ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
KEY = jax.random.key(0)


def regress(nets, key, batch):
    """Deterministic: the net is to be the identity plus one."""
    error = jnp.mean((nets.online(0.0, batch.x1) - batch.x1 - 1) ** 2, axis=1)
    return error, {"twice": 2 * error}


def start(model=LINEAR, tx=optax.sgd(0.1), ema=(0.9,), rows=ROWS):
    return train.init(model, tx, KEY, Batch(rows[:1]), ema=ema)


def close(a, b, **options):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **options), a, b)


@pytest.mark.parametrize("weight", [None, np.array([0, 1, 2, 0, 1, 5, 0, 3], np.float32)])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_gradient_is_that_of_the_weighted_mean(weight, accumulate):
    tx = optax.sgd(0.1)
    step = jax.jit(train.make_step(LINEAR, regress, tx, ema=(0.9,), accumulate=accumulate))
    state = start()
    new, metrics = step(state, None, KEY, Batch(ROWS, weight=weight))
    w = np.ones(8) if weight is None else weight

    @jax.jit
    @jax.value_and_grad
    def mean(params):
        error = jnp.mean((LINEAR.apply(params, 0, ROWS) - ROWS - 1) ** 2, axis=1)
        return jnp.sum(error * w) / w.sum()

    loss, grads = mean(state.params)
    close(new.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads), rtol=1e-5)
    close(metrics["loss"], loss, rtol=1e-6)
    close(metrics["twice"], 2 * loss, rtol=1e-6)
    close(metrics["grad_norm"], optax.tree.norm(grads), rtol=1e-5)
    assert new.step == 1


def test_emas_start_as_copies_and_follow_with_a_warm_up():
    state = start(ema=(0.5, 0.99))
    for copy in state.ema.values():
        close(copy, state.params)
        assert copy["w"] is not state.params["w"]
    step = jax.jit(train.make_step(LINEAR, regress, optax.sgd(0.1), ema=(0.5, 0.99)))
    want = dict.fromkeys(state.ema, state.params)
    for i in range(20):
        state, _ = step(state, None, KEY, Batch(ROWS))
        for d in want:
            decay = min(float(d), (1 + i) / (10 + i))
            want[d] = jax.tree.map(
                lambda e, p, decay=decay: decay * e + (1 - decay) * p, want[d], state.params
            )
    close(state.ema, want, rtol=1e-5)


HALF = tiny_models.in_bfloat16(LINEAR)


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_keeps_the_types_of_a_state_in_bfloat16(length, accumulate):
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    state = start(HALF, tx, ema=(0.9, 0.99))
    assert {a.dtype for a in jax.tree.leaves(state.params)} == {jnp.bfloat16.dtype}
    assert {a.dtype for a in jax.tree.leaves(state.ema)} == {jnp.float32.dtype}
    step = train.make_step(HALF, regress, tx, ema=(0.9, 0.99), accumulate=accumulate)
    many = jax.jit(train.repeat(step, length))
    batches = Batch(jnp.broadcast_to(ROWS, (length, *ROWS.shape)))
    types = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)  # noqa: E731
    assert types(many(state, None, KEY, batches)[0]) == types(state)


def test_an_average_of_parameters_in_bfloat16_moves_by_less_than_they_can():
    state = start(HALF, optax.sgd(1.0), ema=(0.999,))._replace(step=jnp.asarray(10**6))
    step = jax.jit(train.make_step(HALF, regress, optax.sgd(1.0), ema=(0.999,)))
    new, _ = step(state, None, KEY, Batch(ROWS))
    moved = jnp.float32(new.params["w"]) - jnp.float32(state.params["w"])
    assert jnp.abs(moved).min() > 0.001
    close(new.ema["0.999"]["w"] - state.ema["0.999"]["w"], 1e-3 * moved, rtol=1e-2)


def test_a_step_that_changes_a_type_says_which():
    def update(updates, state, params=None):
        return updates, jax.tree.map(lambda m: m.astype(jnp.float32), state)

    init = lambda params: {"memory": jnp.zeros(3, jnp.bfloat16)}  # noqa: E731
    wider = optax.GradientTransformation(init, update)
    step = train.make_step(LINEAR, regress, wider, ema=())
    with pytest.raises(ValueError, match=r"opt_state\['memory'\].* bfloat16\[3\] to float32\[3\]"):
        step(start(tx=wider, ema=()), None, KEY, Batch(ROWS))
    longer = wider._replace(update=lambda updates, state, params=None: (updates, (state, state)))
    step = train.make_step(LINEAR, regress, longer, ema=())
    with pytest.raises(ValueError, match="structure of the state"):
        step(start(tx=longer, ema=()), None, KEY, Batch(ROWS))


def test_an_objective_sees_the_online_stopped_ema_and_teacher_nets():
    teacher = {"w": jnp.full(3, 7.0), "b": jnp.zeros(())}

    def objective(nets, key, batch):
        one = jnp.ones((8, 3))
        through = nets.online(0, one) * nets.stopped(0, one)
        return through.mean(axis=1), {
            "teacher": nets.teacher(0, one)[:, 0], "ema": nets.ema(0, one)[:, 0],
        }  # fmt: skip

    make = train.make_step
    step = jax.jit(make(LINEAR, objective, optax.sgd(1.0), ema=(0.9,), teacher=LINEAR))
    state = start()._replace(params={"w": jnp.full(3, 2.0), "b": jnp.zeros(())})
    new, metrics = step(state, teacher, KEY, Batch(ROWS))
    # d/dw of w·stop(w) is w/3 for each entry; of w² it would be twice that
    close(new.params["w"], 2.0 - np.full(3, 2.0 / 3), rtol=1e-6)
    close((metrics["teacher"], metrics["ema"]), (7.0, 1.0))


def test_without_an_ema_the_slow_net_is_the_stopped_one():
    def objective(nets, key, batch):
        return nets.ema(0, batch.x1).mean(axis=1), {}

    step = jax.jit(train.make_step(LINEAR, objective, optax.sgd(1.0), ema=()))
    state = start(ema=())
    new, _ = step(state, None, KEY, Batch(ROWS))
    close(new.params, state.params)


class Pair(NamedTuple):
    generator: object
    critic: object


def test_a_model_of_several_networks_has_an_optimizer_for_each():
    model = Pair(LINEAR, LINEAR)

    def objective(nets, key, batch):
        a, b = nets.online.generator(0, batch.x1), nets.online.critic(0, batch.x1)
        return jnp.mean((a - 1) ** 2 + (b - 1) ** 2, axis=1), {}

    tx = optimizers.by_network(generator=optax.sgd(0.1), critic=optax.set_to_zero())
    state = start(model, tx)
    step = jax.jit(train.make_step(model, objective, tx, ema=(0.9,)))
    new, _ = step(state, None, KEY, Batch(ROWS))
    close(new.params.critic, state.params.critic)
    assert not np.allclose(new.params.generator["w"], state.params.generator["w"])
    with pytest.raises(ValueError, match="'critic', 'generator'"):
        start(model, optimizers.by_network(generator=optax.sgd(0.1)))


def test_kernels_decay_and_biases_do_not():
    mask = optimizers.kernels(
        {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "gain": jnp.ones(())}
    )
    assert mask == {"kernel": True, "bias": False, "gain": False}


def test_muon_turns_kernels_and_leaves_the_rest_to_adam():
    layer = {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.zeros(8)}
    params = {"input": layer, "middle": layer, "condition": {"embedding": jnp.ones((5, 8))}}
    found = optimizers.matrices(params)
    assert found == {
        "input": {"kernel": None, "bias": None},
        "middle": {"kernel": ((0, 1, 2), 3), "bias": None},
        "condition": {"embedding": None},
    }
    tx = contrib.muon(1.0, muon_weight_dimension_numbers=optimizers.matrices)
    grads = jax.tree.map(lambda p: jax.random.normal(KEY, p.shape), params)
    updates = jax.jit(lambda grads: tx.update(grads, tx.init(params), params)[0])(grads)
    # a matrix whose singular values are all about one, whatever those of the gradient are
    turned = jnp.linalg.svd(updates["middle"]["kernel"].reshape(36, 8), compute_uv=False)
    assert turned.max() < 2 * turned.min()
    sizes = jnp.abs(updates["input"]["kernel"])  # Adam's first step is of one size everywhere
    close(sizes, jnp.full(sizes.shape, sizes.max()), rtol=1e-3)


def test_a_loss_that_is_not_one_value_an_example_is_refused():
    step = train.make_step(
        LINEAR, lambda nets, key, batch: (jnp.zeros(()), {}), optax.sgd(0.1), ema=()
    )
    with pytest.raises(ValueError, match=r"shape \(\) for 8 examples"):
        step(start(ema=()), None, KEY, Batch(ROWS))


@pytest.mark.parametrize("metrics", [{"loss": jnp.zeros(8)}, {"m": jnp.zeros(())}])
def test_metrics_have_names_and_shapes_of_their_own(metrics):
    objective = lambda nets, key, batch: (jnp.zeros(8), metrics)  # noqa: E731
    step = train.make_step(LINEAR, objective, optax.sgd(0.1), ema=())
    with pytest.raises(ValueError, match="metric"):
        step(start(ema=()), None, KEY, Batch(ROWS))


def test_weights_of_another_shape_are_refused_not_broadcast():
    step = train.make_step(LINEAR, regress, optax.sgd(0.1), ema=())
    with pytest.raises(ValueError, match=r"weights have shape \(8, 1\)"):
        step(start(ema=()), None, KEY, Batch(ROWS, weight=jnp.ones((8, 1))))


SMALL = mlp(width=8, depth=1)
FLOW = functools.partial(flow_matching)


def test_repeated_steps_are_single_ones_and_compile_once():
    tx = optax.adam(1e-2)
    batches = np.random.default_rng(1).normal(size=(6, 8, 3)).astype(np.float32)
    traces = []

    def objective(nets, key, batch):
        traces.append(1)
        return flow_matching(nets, key, batch)

    step = jax.jit(train.make_step(SMALL, objective, tx, ema=(0.9,)))
    one, losses = start(SMALL, tx), []
    for batch in batches:
        one, metrics = step(one, None, KEY, Batch(batch))
        losses.append(metrics["loss"])
    assert len(traces) == 1
    many, metrics = jax.jit(train.repeat(train.make_step(SMALL, FLOW, tx, ema=(0.9,)), 6))(
        start(SMALL, tx), None, KEY, Batch(batches)
    )
    close(many, one, rtol=1e-5, atol=1e-6)
    close(metrics["loss"], np.array(losses), rtol=1e-5)


def test_every_step_and_micro_batch_has_noise_of_its_own():
    seen = []

    def objective(nets, key, batch):
        jax.debug.callback(lambda k: seen.append(tuple(k.tolist())), jax.random.key_data(key))
        return nets.online(0, batch.x1).mean(axis=1), {}

    step = jax.jit(train.make_step(LINEAR, objective, optax.sgd(0.1), ema=(0.9,), accumulate=2))
    state = start()
    for _ in range(3):
        state, _ = step(state, None, KEY, Batch(ROWS))
    jax.effects_barrier()
    assert len(set(seen)) == len(seen) == 6


@pytest.mark.parametrize("drawn", [False, True])
def test_no_key_is_used_twice(drawn):
    tx, draw = optax.adam(1e-2), lambda key: Batch(jax.random.normal(key, (8, 3)))
    draw, batch = (draw, None) if drawn else (None, Batch(ROWS))
    step = train.make_step(SMALL, FLOW, tx, ema=(0.9,), accumulate=2, draw=draw)
    with jax.debug_key_reuse(True):
        jax.jit(step)(start(SMALL, tx), None, KEY, batch)


def test_batches_may_be_drawn_inside_the_step():
    draw = lambda key: Batch(jax.random.normal(key, (16, 3)))  # noqa: E731
    tx = optax.adam(1e-2)
    step = train.repeat(train.make_step(SMALL, FLOW, tx, ema=(0.9,), draw=draw), 3)
    _, metrics = jax.jit(step)(start(SMALL, tx), None, KEY, None)
    assert len(set(metrics["loss"].tolist())) == 3


def test_seeds_under_vmap_are_the_runs_they_would_be_alone():
    tx, keys = optax.adam(1e-2), jax.random.split(KEY, 3)
    step = train.make_step(SMALL, FLOW, tx, ema=(0.9,))

    def one(key, batch):
        return step(train.init(SMALL, tx, key, batch, ema=(0.9,)), None, key, batch)

    states, metrics = jax.jit(jax.vmap(one, in_axes=(0, None)))(keys, Batch(ROWS))
    single = jax.jit(one)
    for i in range(3):
        alone, m = single(keys[i], Batch(ROWS))
        close(jax.tree.map(lambda x, i=i: x[i], states), alone, rtol=1e-4, atol=1e-6)
        close(metrics["loss"][i], m["loss"], rtol=1e-5)


def test_parameters_are_counted():
    assert (
        train.total_parameters({"a": jnp.ones((3, 4)), "b": jax.ShapeDtypeStruct((), float)}) == 13
    )
