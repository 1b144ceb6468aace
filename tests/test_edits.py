"""Edits of texts: rows and alignments, the loss and the chain with exact rates, the network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_edits as toy

from fmjax import edits, guidance, sources, times
from fmjax.losses.edit_flow import edit_flow
from fmjax.models._tokens import IMPOSSIBLE
from fmjax.models.edit_transformer import edit_transformer
from fmjax.samplers import _tokens
from fmjax.samplers.edit_ctmc import edit_ctmc
from fmjax.types import Batch, Nets

KEY = jax.random.key(0)
CASES = toy.cases()
END = toy.END


def rows(*texts, width=4):
    return np.array([[*map(int, t), *[END] * (width - len(t))] for t in texts], np.int32)


compact = jax.jit(functools.partial(edits.compact, end=END), static_argnames="width")


def test_rows_are_made_compact():
    z = np.array([[2, 0, 2, 1, 1], [2, 2, 2, 2, 2], [0, 1, 0, 1, 1], [2, 2, 2, 0, 2]])
    wanted = rows("011", "", "0101", "0")
    same, narrow, wide = jax.jit(lambda z: [compact(z, width=width) for width in (4, 2, 7)])(z)
    np.testing.assert_array_equal(same, wanted)
    np.testing.assert_array_equal(narrow, wanted[:, :2])
    np.testing.assert_array_equal(wide[2], [0, 1, 0, 1, 1, 2, 2])


def test_edits_are_done_at_once_and_what_does_not_fit_is_dropped():
    x = rows("01", "01", "0101", "")
    before = np.array([[2, 2, 1, 2], [1, 1, 2, 2], [0, 2, 2, 2], [1, 2, 2, 2]])
    instead = np.array([[2, 1, 2, 2], [0, 0, 2, 2], [0, 1, 0, 1], [2, 2, 2, 2]])
    found = jax.jit(functools.partial(edits.edited, end=END))(x, before, instead)
    np.testing.assert_array_equal(found, rows("11", "1010", "0010", "1"))


def test_what_waits_is_counted_in_the_places_of_the_text():
    z0, z1 = np.array([[2, 0, 1, 2, 0]]), np.array([[1, 0, 2, 1, 1]])
    waiting = functools.partial(edits.waiting, end=END, vocabulary=3)
    both = jax.jit(lambda z0, z1: [waiting(z0, z1, width=width) for width in (4, 2)])(z0, z1)
    (index, waits), (_, fewer) = jax.tree.map(np.asarray, both)
    # insert 1 before 0; 0 stays; delete 1; insert 1 before place 2; substitute it by 1
    np.testing.assert_array_equal(waits[0], [True, False, True, True, True])
    np.testing.assert_array_equal(index[0][waits[0]], [1, 7 + 6, 14 + 1, 14 + 4])
    np.testing.assert_array_equal(fewer[0], [True, False, True, False, False])


def distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    steps = (
        distance(a[1:], b) + 1,
        distance(a, b[1:]) + 1,
        distance(a[1:], b[1:]) + (a[0] != b[0]),
    )
    return min(steps)


def test_the_shortest_alignment_is_one_of_both_texts_with_the_fewest_edits():
    rng = np.random.default_rng(0)
    texts = ["".join(map(str, rng.integers(0, 2, rng.integers(0, 6)))) for _ in range(80)]
    x0, x1 = rows(*texts[:40], width=6), rows(*texts[40:], width=6)
    z0, z1 = jax.jit(functools.partial(edits.shortest, end=END))(KEY, x0, x1)
    np.testing.assert_array_equal(compact(z0, width=6), x0)
    np.testing.assert_array_equal(compact(z1, width=6), x1)
    wanted = [distance(a, b) for a, b in zip(texts[:40], texts[40:], strict=True)]
    np.testing.assert_array_equal((np.asarray(z0) != np.asarray(z1)).sum(axis=1), wanted)


def test_sources_of_texts():
    like = jnp.zeros((3000, 5), jnp.int32)
    assert (np.asarray(sources.empty(KEY, like, end=1)) == 1).all()
    short = functools.partial(sources.short_text, vocabulary=4, end=1, longest=3)
    x = np.asarray(jax.jit(short)(KEY, like))
    length = (x != 1).sum(axis=1)
    np.testing.assert_array_equal(x != 1, np.arange(5)[None] < length[:, None])
    np.testing.assert_allclose(np.bincount(length) / 3000, 0.25, atol=0.03)
    np.testing.assert_allclose(np.bincount(x[x != 1])[[0, 2, 3]] / length.sum(), 1 / 3, atol=0.03)
    with pytest.raises(ValueError, match="longest=6"):
        sources.short_text(KEY, like, vocabulary=4, end=1, longest=6)


def drawn_loss(name, net, n, once=False, **options):
    case = CASES[name]
    batch = Batch(toy.draws(jax.random.key(4), n, once))
    loss, metrics = edit_flow(
        Nets(net, net, net), KEY, batch, source=case.source, align=case.align, end=END, **options
    )
    assert loss.shape == (n,)
    assert all(m.shape == (n,) for m in metrics.values())
    return loss, metrics


def changes():
    """To other nets, one part after another, up and down, and in how often or in which token."""
    tilt = np.array([0.5, -0.5, 0.0])
    for field in edits.Edits._fields:
        for change in (-0.5, 0.5, tilt, -tilt):
            if field != "delete" or np.ndim(change) == 0:
                yield field, change


@pytest.mark.parametrize("name", CASES)
def test_the_exact_rates_are_the_minimum(name):
    exact = toy.net(name)
    tried = [(field, by) for field, by in changes() if name != "empty" or field == "insert"]
    none = edits.Edits(*np.zeros((3, 1 + len(tried), 1, 1, toy.V), np.float32))
    for i, (field, change) in enumerate(tried):
        getattr(none, field)[1 + i] = change
    by = none._replace(delete=none.delete[..., 0])

    def means(by):
        net = lambda t, x, c=None, *, key=None: jax.tree.map(jnp.add, exact(t, x), by)  # noqa: E731
        early = functools.partial(times.stratified, high=0.9)  # less noise
        return jax.tree.map(jnp.mean, drawn_loss(name, net, 20_000, sample_t=early))

    # of all nets at once: what they are asked about, and the exact rates there, are the same
    losses, metrics = jax.tree.map(np.asarray, jax.jit(jax.vmap(means))(by))
    # of all examples together the edits left are as many as expected
    np.testing.assert_allclose(metrics["edits_left"][0], metrics["edits_expected"][0], rtol=0.02)
    for (field, _), other in zip(tried, losses[1:], strict=True):
        assert other > losses[0] + 1e-3, field
    wanted = {"insert"} if name == "empty" else set(edits.Edits._fields)
    assert {field for field, _ in tried} == wanted


def bound(name, once=False, n=200_000):
    """Nats for a row; more times near 1, where few rows differ and by much, and less weight."""
    low = 0.06  # the times above 1 − low⁴ are too few to matter

    @jax.jit
    def mean():
        s = low + (1 - low) * jnp.arange(n) / n
        net = toy.net(name, once)
        loss, _ = drawn_loss(name, net, n, once, sample_t=lambda key, n: 1 - s**4)
        return (4 * s**3 * loss).mean()

    return float(mean()) * (1 - low) * toy.N


def test_out_of_nothing_and_with_no_token_twice_the_minimum_is_the_entropy():
    law = toy.ONCE[toy.DISTINCT]
    np.testing.assert_allclose(bound("empty", True), -(law * np.log(law)).sum(), atol=0.04)


def test_elsewhere_the_minimum_is_a_bound():
    entropy = -(toy.LAW * np.log(toy.LAW)).sum()
    assert entropy < bound("empty") < entropy + 0.5
    assert bound("left") > entropy


@functools.partial(jax.jit, static_argnames=("name", "steps", "n"))
def drawn(name, steps, n):
    x0 = CASES[name].source(jax.random.key(7), jnp.zeros((n, toy.N), jnp.int32))
    x, info = edit_ctmc(toy.net(name), KEY, x0, end=END, steps=steps, high=False)
    return x, info.nfe


def error(name, steps, n):
    x, nfe = drawn(name, steps, n)
    assert nfe == steps
    return toy.variation(x)


@pytest.mark.parametrize("name", CASES)
def test_the_chain_ends_in_the_law_of_the_data_and_its_error_halves_with_the_steps(name):
    # the noise of the error is 0.4 (7 texts/n)^½: 0.012 of 6000 rows
    errors = [error(name, steps, 6000) for steps in (4, 8, 32)]
    assert errors[-1] < 0.04
    assert errors[0] / errors[1] > 1.4


@pytest.mark.complete
@pytest.mark.parametrize("name", CASES)
def test_many_steps_end_nearer_to_the_law_of_the_data(name):
    assert error(name, 64, 30_000) < 0.03
    assert error(name, 8, 10_000) / error(name, 16, 10_000) > 1.4


def test_the_chain_calls_its_net_once_a_step_and_keeps_rows_compact():
    calls, source = [], CASES["left"].source

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda: calls.append(1))
        z = jnp.zeros((*x.shape, toy.V)).at[..., END].set(IMPOSSIBLE)
        return edits.Edits(z, jnp.zeros(x.shape), z)

    x0 = jax.jit(source)(KEY, np.zeros((50, toy.N), np.int32))
    x, info = jax.jit(lambda x0: edit_ctmc(net, KEY, x0, end=END, steps=5))(x0)
    jax.effects_barrier()
    assert len(calls) == info.nfe == 5
    assert x.dtype == x0.dtype
    np.testing.assert_array_equal(x, compact(x, width=toy.N))


def test_temperature_and_nucleus_change_which_token_and_not_how_often():
    log_u = jnp.log(jnp.array([0.6, 0.2, 1e-30]))[None, None]

    def net(t, x, cond=None, *, key=None):
        nothing = jnp.full((*x.shape, toy.V), IMPOSSIBLE)
        insert = jnp.where((edits.anchors(x, end=END) & (t < 0.1))[..., None], log_u, nothing)
        return edits.Edits(insert, nothing[..., 0], nothing)

    cases = (({}, 0.75), ({"temperature": 0.5}, 0.9), ({"top_p": 0.5}, 1.0))

    @jax.jit
    def first():
        x0 = jnp.full((20_000, 2), END)
        chain = functools.partial(edit_ctmc, net, KEY, x0, end=END, steps=1)
        return [chain(**options)[0][:, 0] for options, _ in cases]

    for x, (_, share) in zip(first(), cases, strict=True):
        found = np.bincount(x, minlength=3) / len(x)
        np.testing.assert_allclose(found, [0.8 * share, 0.8 * (1 - share), 0.2], atol=0.01)
    np.testing.assert_array_equal(_tokens.sharper()(log_u), log_u)


def test_bad_options_are_named():
    net, x0 = toy.net("empty"), jnp.full((2, toy.N), END)
    chain = functools.partial(edit_ctmc, net, KEY, x0)
    with pytest.raises(ValueError, match="steps=0"):
        chain(end=END, steps=0)
    with pytest.raises(ValueError, match="end=None"):
        chain(end=None)
    with pytest.raises(ValueError, match="temperature=0"):
        chain(end=END, temperature=0.0)

    def loss(net, end):
        options = {"source": CASES["empty"].source, "end": end}
        return jax.eval_shape(
            lambda x: edit_flow(Nets(net, net, net), KEY, Batch(x), **options), x0
        )

    with pytest.raises(ValueError, match="end=None"):
        loss(net, None)
    wrong = lambda t, x, c=None, *, key=None: jnp.zeros((2, toy.N, 3))  # noqa: E731
    with pytest.raises(ValueError, match=r"expected edits\.Edits"):
        loss(wrong, END)


SIZES = {"vocabulary": 5, "end": 4, "width": 16, "depth": 2, "heads": 2}
MODEL = edit_transformer(**SIZES)
apply = jax.jit(MODEL.apply)


@functools.cache
def params():
    """Of a small network, after a little noise."""

    @jax.jit
    def noised():
        first = MODEL.init(KEY, Batch(jnp.zeros((2, 5), jnp.int32)))
        return jax.tree.map(lambda p: p + 0.2 * jax.random.normal(KEY, p.shape), first)

    return noised()


def test_the_network_gives_rates_of_what_can_be():
    x = np.array([[0, 1, 3, 4, 4], [4, 4, 4, 4, 4], [3, 2, 1, 0, 2]])
    found = apply(params(), np.array([0.1, 0.5, 0.9], np.float32), x)
    assert found.insert.shape == found.substitute.shape == (3, 5, 5)
    assert found.delete.shape == (3, 5)
    text, anchors = x != 4, np.arange(5)[None] <= np.array([[3], [0], [5]])
    possible = jax.tree.map(lambda a: np.asarray(a) > -100, found)
    np.testing.assert_array_equal(possible.delete, text)
    tokens = np.arange(5)[None, None] != 4
    np.testing.assert_array_equal(possible.insert, anchors[..., None] & tokens)
    other = tokens & (np.arange(5)[None, None] != x[..., None])
    np.testing.assert_array_equal(possible.substitute, text[..., None] & other)
    assert all((np.asarray(a)[p] < 10).all() for a, p in zip(found, possible, strict=True))


def test_ends_tell_nothing():
    x = np.array(
        [[0, 1, 3, 4, 4], [2, 4, 4, 4, 4], [1, 1, 3, 4, 4]]
    )  # the last is the first, but 1
    t = np.full(3, 0.3, np.float32)
    found = apply(params(), t, x)
    wider = apply(params(), 0.3, np.pad(x, ((0, 0), (0, 4)), constant_values=4))
    for a, b in zip(found, wider, strict=True):
        np.testing.assert_allclose(a, b[:, :5], rtol=1e-4, atol=1e-4)
    # and the text does
    assert not np.allclose(found.insert[2, 2, :4], found.insert[0, 2, :4], atol=1e-4)


@pytest.mark.parametrize("remat", [False, True])
def test_the_loss_of_the_network_has_finite_gradients(remat):
    x1 = jnp.array([[0, 1, 3, 4, 4], [2, 4, 4, 4, 4], [3, 2, 1, 0, 2], [4, 4, 4, 4, 4]])
    model = edit_transformer(**SIZES, remat=remat, dropout=0.1)
    source = functools.partial(sources.short_text, vocabulary=5, end=4, longest=3)

    @jax.jit
    @jax.value_and_grad
    def loss(params, key):
        net = functools.partial(model.apply, params)
        nets = Nets(net, net, net)
        options = {"source": source, "end": 4, "align": edits.shortest}
        return edit_flow(nets, key, Batch(x1), **options)[0].sum()

    start = params()
    with jax.debug_key_reuse(True):
        found, grads = loss(start, jax.random.key(5))
    assert np.isfinite(found)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads["output"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"vocabulary": 2, "end": 1}, "vocabulary=2"), ({"vocabulary": 5, "end": None}, "end=None")],
)
def test_the_network_needs_texts_that_end(options, message):
    with pytest.raises(ValueError, match=message):
        edit_transformer(**options)


def test_guidance_is_of_every_rate():
    log_rates = np.log(np.array([2.0, 3.0], np.float32))
    rates = edits.Edits(*(log_rates[:, None, None] for _ in range(3)))
    rates = rates._replace(delete=rates.delete[..., 0])

    def net(t, x, cond, *, key=None):
        return jax.tree.map(lambda a: jnp.asarray(a)[cond], rates)

    guided = guidance.classifier_free(net, scale=2.0, null=np.int32(1))
    found = jax.jit(guided)(0.5, np.zeros((3, 1), np.int32), np.zeros(3, np.int32))
    assert isinstance(found, edits.Edits)
    for a, like in zip(found, rates, strict=True):
        np.testing.assert_allclose(np.exp(a), np.full((3, *like.shape[1:]), 4 / 3), rtol=1e-5)


def test_rates_of_edits_are_composed_and_blended():
    kinds = np.log(np.array([2.0, 3.0], np.float32))

    def net(t, x, cond, *, key=None):
        log_rate = jnp.asarray(kinds)[cond["kind"]]
        return edits.Edits(log_rate[:, None, None], log_rate[:, None], log_rate[:, None, None])

    x, t = np.zeros((3, 1), np.int32), np.array([0.1, 0.5, 0.9], np.float32)
    cond, null = {"kind": np.zeros(3, np.int32)}, {"kind": np.int32(1)}
    composed = guidance.compose(net, null=null, scales={"kind": 2.0}, interval=(0.4, 0.6))
    blended = guidance.blend(net, other=null, amount=0.5)
    for a in jax.jit(composed)(t, x, cond):
        np.testing.assert_allclose(np.exp(a).reshape(-1), [2, 4 / 3, 2], rtol=1e-5)
    for a in jax.jit(blended)(t, x, cond):
        np.testing.assert_allclose(np.exp(a).reshape(-1), np.sqrt(6), rtol=1e-5)
