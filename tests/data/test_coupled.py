"""Coupled data: the rows of the plan, whatever the processes, the resume and the threads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import codecs, config, sources
from fmjax.couplings import _common as couplings_common
from fmjax.couplings.exact import exact
from fmjax.couplings.independent import independent
from fmjax.data import toy
from fmjax.data.coupled import coupled
from fmjax.data.in_memory import in_memory
from fmjax.types import Batch, Rows

ROWS = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)


LABELS = np.arange(len(ROWS), dtype=np.int32)
points = functools.partial(in_memory, dict.fromkeys(("train", "test"), Batch(ROWS, LABELS)))
unlabelled = functools.partial(in_memory, dict.fromkeys(("train", "test"), Batch(ROWS)))


def two_classes(key, n):
    key_class, key_x = jax.random.split(key)
    label = jax.random.randint(key_class, (n,), 0, 2)
    return Batch(6.0 * label[:, None] - 3 + jax.random.normal(key_x, (n, 2)), label)


def backwards(key, x0, x1, cond=None):
    """The last noise to the first data, which are turned round, too."""
    order = np.arange(len(x1))
    return Rows(order, order[::-1])


def steps(data, n, split="train"):
    return [data.batch(split, i) for i in range(n)]


def joined(batches):
    return jax.tree.map(lambda *a: np.concatenate(a), *batches)


def cost(batch):
    return float(np.sum((np.asarray(batch.x0) - batch.x1) ** 2))


def test_plans_are_optimal_in_every_block():
    options = {"batch_size": 16, "block": 8, "seed": 3}
    plain = joined(steps(coupled(unlabelled, coupling=independent, **options), 4))
    paired = joined(steps(coupled(unlabelled, **options), 4))
    np.testing.assert_array_equal(plain.x1, paired.x1)
    for i in range(0, 64, 8):
        before, after = (jax.tree.map(lambda a, i=i: a[i : i + 8], b) for b in (plain, paired))
        assert sorted(before.x0.tolist()) == sorted(after.x0.tolist())
        best = exact(jax.random.key(0), before.x0, before.x1)
        assert cost(after) == pytest.approx(cost(before._replace(x0=before.x0[best.x0])), rel=1e-5)
    assert cost(paired) < 0.8 * cost(plain)


@pytest.mark.parametrize(("encoded", "factor"), [(True, 1), (False, 2)])
def test_rows_in_model_space_are_not_encoded_again(encoded, factor):
    inner = lambda batch_size: points(batch_size=batch_size)._replace(encoded=encoded)  # noqa: E731
    seen = []

    def coupling(key, x0, x1, cond=None):
        seen.append(np.asarray(x1))
        return backwards(key, x0, x1)

    doubled = codecs.Codec(lambda x: 2 * x, lambda z: z / 2)
    options = {"coupling": coupling, "codec": doubled, "workers": 1}
    data = coupled(inner, block=8, batch_size=8, **options)
    assert data.encoded == encoded
    batch = data.batch("train", 0)
    np.testing.assert_array_equal(batch.x1, ROWS[batch.cond])
    np.testing.assert_array_equal(seen[0][::-1], factor * batch.x1)


def test_conditions_and_everything_else_follow_their_rows():
    data = coupled(points, coupling=backwards, block=10, batch_size=20)
    order = joined(steps(points(batch_size=10), 2))
    batch = data.batch("train", 0)
    np.testing.assert_array_equal(batch.x1, ROWS[batch.cond])
    np.testing.assert_array_equal(batch.cond[:10], order.cond[:10][::-1])


@pytest.mark.parametrize(("batch_size", "block"), [(16, 4), (16, 16), (8, 32), (12, 8)])
def test_processes_share_what_one_alone_gets(batch_size, block):
    make = functools.partial(coupled, unlabelled, block=block, batch_size=batch_size, seed=1)
    whole = steps(make(), 5)
    parts = [steps(make(process=(i, 2)), 5) for i in range(2)]
    for alone, *shares in zip(whole, *parts, strict=True):
        jax.tree.map(np.testing.assert_array_equal, alone, joined(shares))


def test_the_batches_of_one_block_together_are_the_block():
    small = joined(steps(coupled(unlabelled, block=32, batch_size=8), 8))
    large = joined(steps(coupled(unlabelled, block=32, batch_size=64), 1))
    jax.tree.map(np.testing.assert_array_equal, small, large)


def test_a_resumed_run_sees_the_same_batches_and_seeds_differ():
    make = functools.partial(coupled, unlabelled, block=8, batch_size=8)
    one, other = make(), make()
    expected = steps(one, 12)
    for step in (9, 2, 3, 11):
        jax.tree.map(np.testing.assert_array_equal, other.batch("train", step), expected[step])
    assert np.any(make(seed=1).batch("train", 0).x0 != expected[0].x0)
    assert np.any(one.batch("test", 0).x0 != expected[0].x0)


def test_noise_comes_from_the_source_in_model_space():
    source = functools.partial(sources.distribution, sample=lambda key, n: jnp.full((n, 2), 7.0))
    codec = codecs.affine(low=0.0, high=10.0)
    seen = []

    def spy(key, x0, x1, cond=None):
        seen.append((x0, x1))
        return independent(key, x0, x1)

    data = coupled(
        unlabelled, coupling=spy, block=8, batch_size=8, source=source, codec=codec, workers=1
    )
    batch = data.batch("train", 0)
    np.testing.assert_array_equal(batch.x0, np.full((8, 2), 7.0))
    np.testing.assert_allclose(seen[0][1], codec.encode(jnp.asarray(batch.x1)), rtol=1e-6)
    assert data.spec.x0.shape == (2,)


def test_distributions_are_drawn_block_by_block():
    make = functools.partial(toy.toy, toy.moons, x0=toy.gaussians8)
    data = coupled(make, block=64, batch_size=32)
    assert data.sample is None
    batch = joined(steps(data, 2))
    assert batch.x0.shape == (64, 2)
    radius = np.linalg.norm(batch.x0, axis=1)
    assert abs(radius.mean() - 5) < 0.5  # the toy's own noise rather than the run's source
    assert np.any(data.batch("train", 2).x1 != batch.x1[:32])


def test_a_condition_warns_unless_the_coupling_looks_at_it():
    with pytest.warns(couplings_common.SkewedCondition, match="conditional:classes"):
        coupled(points, block=8, batch_size=8, ahead=1).batch("train", 0)


def test_what_fails_ahead_is_reported_when_it_is_asked_for():
    def broken(key, x0, x1, cond=None):
        raise RuntimeError("no plan today")

    data = coupled(unlabelled, coupling=broken, block=8, batch_size=8)
    with pytest.raises(RuntimeError, match="no plan today"):
        data.batch("train", 0)
    with pytest.raises(ValueError, match="there is no split 'valid'"):
        data.batch("valid", 0)


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match="block=0"):
        coupled(unlabelled, block=0, batch_size=8)
    with pytest.raises(TypeError, match=r"name it with dict\(bind="):
        coupled(unlabelled(batch_size=8), block=8, batch_size=8)


def test_a_config_names_a_coupling_within_classes():
    node = {
        "name": "fmjax.data.coupled:coupled",
        "data": {"bind": "fmjax.data.toy:toy", "target": {"bind": f"{__file__}:two_classes"}},
        "coupling": {
            "bind": "fmjax.couplings.conditional:classes",
            "coupling": {"bind": "fmjax.couplings.exact:exact"},
        },
        "block": 32,
    }
    data = config.build(node, "config.data", batch_size=32, seed=0, source=sources.normal)
    batch = data.batch("train", 0)
    for label in (0, 1):
        x0, x1 = (side[batch.cond == label] for side in (batch.x0, batch.x1))
        best = exact(jax.random.key(0), x0, x1)
        np.testing.assert_array_equal(best.x0, np.arange(len(x1)))  # nothing is left to gain
    assert cost(batch) > cost(
        batch._replace(x0=batch.x0[exact(jax.random.key(0), batch.x0, batch.x1).x0])
    )


def test_a_process_computes_the_blocks_of_its_own_rows_only():
    seen = []

    def spy(key, x0, x1, cond=None):
        seen.append(x1.tobytes())
        return independent(key, x0, x1)

    make = functools.partial(coupled, unlabelled, coupling=spy, block=4, batch_size=16, ahead=4)
    order = joined(steps(make(), 2)).x1
    seen.clear()
    data = make(process=(1, 2), workers=1)
    steps(data, 2)
    own = {order[i : i + 4].tobytes() for i in (8, 12, 24, 28)}
    assert own <= set(seen)
    assert not {order[i : i + 4].tobytes() for i in (0, 4, 16, 20)} & set(seen)
