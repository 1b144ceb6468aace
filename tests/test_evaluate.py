import gc
import tracemalloc

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fmjax import codecs, evaluate, shard, sources
from fmjax.samplers.ode import ode
from fmjax.types import Batch, Info, Model

DATA = tiny.points(batch_size=2)
MODEL = Model(
    lambda key, batch: jnp.zeros(()),
    lambda params, t, x, cond=None, *, key=None: params + 0 * x + cond[:, None],
)


def euler(net, key, x0, cond=None, *, ts=None):
    return ode(net, key, x0, cond, solver=diffrax.Euler(), steps=3, ts=ts)


def make(*, devices=1, **options):
    defaults = {"source": sources.normal, "sampler": euler, "codec": codecs.identity(), "chunk": 8}
    rows = shard.jit(devices=devices).rows
    return evaluate.make_generate(MODEL, DATA, rows=rows, **defaults | options)


def zeros(key, like):
    return jnp.zeros(like.shape)


def test_rows_get_their_conditions_and_are_decoded():
    generate = make(source=zeros, codec=codecs.affine(low=0.0, high=4.0, clip=False))
    cond = np.arange(20, dtype=np.int32)
    batch, info = generate(jnp.asarray(0.5), jax.random.key(0), cond, 19)
    # dx/dt = 0.5 + cond from 0, decoded by (z + 1)·2
    expected = np.broadcast_to((0.5 + cond[:19, None] + 1) * 2, (19, 2))
    np.testing.assert_allclose(batch.x1, expected, rtol=1e-6)
    np.testing.assert_array_equal(batch.cond, cond[:19])
    assert isinstance(batch.x1, np.ndarray)
    assert info.nfe == 3


def test_fewer_are_a_prefix_and_devices_do_not_matter():
    cond, key = np.zeros(20, np.int32), jax.random.key(1)
    many = make()(jnp.zeros(()), key, cond, 20)[0].x1
    np.testing.assert_array_equal(make()(jnp.zeros(()), key, cond, 5)[0].x1, many[:5])
    np.testing.assert_array_equal(make(devices=8)(jnp.zeros(()), key, cond, 20)[0].x1, many)
    assert len(np.unique(many)) == many.size  # no chunk repeats another


def test_save_points_are_decoded_and_joined_over_chunks():
    generate = make(
        source=zeros,
        codec=codecs.affine(low=0.0, high=2.0, clip=False),
        sampler=lambda *a: euler(*a, ts=np.asarray([0.0, 1.0])),
    )
    _, info = generate(jnp.ones(()), jax.random.key(0), np.zeros(11, np.int32), 11)
    assert info.xs.shape == (2, 11, 2)
    np.testing.assert_allclose(info.xs[0], 1.0)
    np.testing.assert_allclose(info.xs[1], 2.0)


def test_evaluations_of_each_example_are_kept_apart():
    def sampler(net, key, x0, cond=None):
        return x0, Info(cond)

    _, info = make(sampler=sampler)(jnp.zeros(()), jax.random.key(0), np.arange(10), 10)
    np.testing.assert_array_equal(info.nfe, np.arange(10))


def test_guidance_is_applied():
    generate = make(source=zeros, guidance=lambda net: lambda t, x, c: 2 * net(t, x, c))
    batch, _ = generate(jnp.ones(()), jax.random.key(0), np.zeros(2, np.int32), 2)
    np.testing.assert_allclose(batch.x1, 2.0, rtol=1e-6)


class Counting:
    """A generator of row numbers, and what was asked of it."""

    def __init__(self, bad=()):
        self.asked, self.bad = [], list(bad)

    def __call__(self, params, key, cond, n, *, keep):
        self.asked.append(n)
        x1 = np.arange(n, dtype=np.float32)[:, None]
        x1[self.bad] = np.nan
        return Batch(keep(x1), cond), Info(np.asarray(7))


def drawn(generate, data=DATA):
    return evaluate.Samples(generate, None, jax.random.key(0), data)


def test_samples_are_drawn_once_and_grown_when_more_are_asked_for():
    generate = Counting()
    samples = drawn(generate)
    assert [len(samples(n).x1) for n in (10, 10, 4, 40, 12)] == [10, 10, 4, 40, 12]
    assert generate.asked == [10, 40]
    np.testing.assert_array_equal(samples(40).cond, np.resize(DATA.take("test", None).cond, 40))
    assert samples.seconds > 0


def test_samples_that_are_not_finite_are_an_error_every_time():
    samples = drawn(Counting(bad=[1, 3]))
    for _ in range(2):
        with pytest.raises(evaluate.NotFinite, match=r"2 of 8 samples are not finite.*more steps"):
            samples(8)


def test_samples_come_in_chunks_of_one_draw():
    generate = Counting()
    samples = drawn(generate)
    parts = list(samples.chunks(20, 8))
    assert [len(part.x1) for part in parts] == [8, 8, 4]
    for name in ("x1", "cond"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(samples(20), name))
    assert generate.asked == [20]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_bytes_are_kept_as_bytes_and_given_as_the_datas_type(dtype):
    x = np.asarray([[0], [255], [17]], dtype)
    assert evaluate.packed(x).dtype == np.uint8
    np.testing.assert_array_equal(evaluate.packed(x), x)
    for other in (-1, 256, 0.5, np.nan, np.inf):
        kept = evaluate.packed(np.append(x, [[other]], axis=0).astype(dtype))
        assert kept.dtype == dtype
    assert evaluate.packed(x.astype(np.int32)).dtype == np.int32


@pytest.mark.parametrize(("levels", "kept"), [(256, np.uint8), (None, np.float32)])
def test_samples_of_bytes_take_a_quarter_of_the_memory_and_stay_the_same(levels, kept):
    n = 100_000
    generate = make(codec=codecs.affine(low=0.0, high=255.0, levels=levels), chunk=10_000)
    params, key = jnp.zeros(()), jax.random.key(0)
    samples = evaluate.Samples(generate, params, key, DATA)
    cond = samples.conditions(n)
    x1 = generate(params, key, cond, n)[0].x1
    tracemalloc.start()
    again = samples(n).x1
    assert again.dtype == x1.dtype == np.float32
    np.testing.assert_array_equal(again, x1)
    del again
    gc.collect()
    of_arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    held = tracemalloc.take_snapshot().filter_traces([of_arrays]).traces
    tracemalloc.stop()
    wanted = x1.size * np.dtype(kept).itemsize + cond.nbytes
    assert sum(trace.size for trace in held) == pytest.approx(wanted, rel=0.05)


def test_of_rows_that_are_read_for_their_conditions_few_are_held():
    asked = []

    def take(split, n, start=0):
        asked.append(n)
        return DATA.take("train", 1)._replace(cond=np.arange(start, start + n, dtype=np.int32))

    data = DATA._replace(take=take, splits={"train": 1, "test": 50_000})
    cond = drawn(Counting(), data).conditions(40_000)
    np.testing.assert_array_equal(cond, np.arange(40_000))
    assert max(asked) == 256
    asked.clear()
    np.testing.assert_array_equal(drawn(Counting(), data).conditions(3), [0, 1, 2])
    assert asked == [3]


def test_evaluators_share_samples_and_have_keys_of_their_own():
    keys = []

    def evaluator(name):
        def run(net, key, data, samples):
            keys.append(np.asarray(jax.random.key_data(key)).tolist())
            v = net(0.0, jnp.ones((1, 2)), jnp.ones(1))
            return {name: samples(6).x1.sum() + float(v[0, 0])}

        return run

    generate = Counting()
    samples = drawn(generate)
    table = evaluate.evaluate(
        {"a": evaluator("x"), "b": evaluator("y")}, MODEL, jnp.ones(()), jax.random.key(0), DATA,
        samples,
    )  # fmt: skip
    assert table == {"x": 17.0, "y": 17.0, "nfe": 7.0, "sampling_seconds": samples.seconds}
    assert generate.asked == [6]
    assert keys[0] != keys[1]


def test_two_evaluators_may_not_report_one_name():
    evaluators = {name: lambda *_: {"x": 1.0} for name in "ab"}
    samples = drawn(Counting())
    with pytest.raises(ValueError, match="'b': another one already reports 'x'"):
        evaluate.evaluate(evaluators, MODEL, None, jax.random.key(0), DATA, samples)


def test_without_samples_nothing_is_said_of_sampling():
    samples = drawn(Counting())
    assert evaluate.evaluate({}, MODEL, None, jax.random.key(0), DATA, samples) == {}
