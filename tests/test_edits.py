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
    return jnp.array([[*map(int, t), *[END] * (width - len(t))] for t in texts], jnp.int32)


def test_rows_are_made_compact():
    z = jnp.array([[2, 0, 2, 1, 1], [2, 2, 2, 2, 2], [0, 1, 0, 1, 1], [2, 2, 2, 0, 2]])
    wanted = rows("011", "", "0101", "0")
    np.testing.assert_array_equal(edits.compact(z, end=END, width=4), wanted)
    np.testing.assert_array_equal(edits.compact(z, end=END, width=2), wanted[:, :2])
    wide = edits.compact(z, end=END, width=7)
    np.testing.assert_array_equal(wide[2], [0, 1, 0, 1, 1, 2, 2])


def test_edits_are_done_at_once_and_what_does_not_fit_is_dropped():
    x = rows("01", "01", "0101", "")
    before = jnp.array([[2, 2, 1, 2], [1, 1, 2, 2], [0, 2, 2, 2], [1, 2, 2, 2]])
    instead = jnp.array([[2, 1, 2, 2], [0, 0, 2, 2], [0, 1, 0, 1], [2, 2, 2, 2]])
    found = edits.edited(x, before, instead, end=END)
    np.testing.assert_array_equal(found, rows("11", "1010", "0010", "1"))


def test_what_waits_is_counted_in_the_places_of_the_text():
    z0, z1 = jnp.array([[2, 0, 1, 2, 0]]), jnp.array([[1, 0, 2, 1, 1]])
    index, waits = edits.waiting(z0, z1, end=END, vocabulary=3, width=4)
    # insert 1 before 0; 0 stays; delete 1; insert 1 before place 2; substitute it by 1
    np.testing.assert_array_equal(waits[0], [True, False, True, True, True])
    np.testing.assert_array_equal(index[0][waits[0]], [1, 7 + 6, 14 + 1, 14 + 4])
    _, waits = edits.waiting(z0, z1, end=END, vocabulary=3, width=2)
    np.testing.assert_array_equal(waits[0], [True, False, True, False, False])


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
    np.testing.assert_array_equal(edits.compact(z0, end=END, width=6), x0)
    np.testing.assert_array_equal(edits.compact(z1, end=END, width=6), x1)
    wanted = [distance(a, b) for a, b in zip(texts[:40], texts[40:], strict=True)]
    np.testing.assert_array_equal((z0 != z1).sum(axis=1), wanted)


def test_sources_of_texts():
    like = jnp.zeros((3000, 5), jnp.int32)
    assert (sources.empty(KEY, like, end=1) == 1).all()
    x = np.asarray(sources.short_text(KEY, like, vocabulary=4, end=1, longest=3))
    length = (x != 1).sum(axis=1)
    np.testing.assert_array_equal(x != 1, np.arange(5)[None] < length[:, None])
    np.testing.assert_allclose(np.bincount(length) / 3000, 0.25, atol=0.03)
    np.testing.assert_allclose(np.bincount(x[x != 1])[[0, 2, 3]] / length.sum(), 1 / 3, atol=0.03)
    with pytest.raises(ValueError, match="longest=6"):
        sources.short_text(KEY, like, vocabulary=4, end=1, longest=6)


def value(name, net, *, once=False, n=20_000, **options):
    case = CASES[name]
    options = {"sample_t": functools.partial(times.stratified, high=0.999), **options}
    batch = Batch(toy.draws(jax.random.key(4), n, once))
    loss, metrics = edit_flow(
        Nets(net, net, net), KEY, batch, source=case.source, align=case.align, end=END, **options
    )
    assert loss.shape == (n,)
    assert all(m.shape == (n,) for m in metrics.values())
    return float(loss.mean()), {k: float(v.mean()) for k, v in metrics.items()}


def changed(exact):
    """Other nets, one part after another, up and down, and in how often or in which token."""
    tilt = jnp.array([0.5, -0.5, 0.0])[None, None]
    for field in edits.Edits._fields:
        for change in (-0.5, 0.5, tilt, -tilt):
            if field != "delete" or np.ndim(change) == 0:
                yield (
                    field,
                    lambda t, x, c=None, *, key=None, f=field, by=change: (
                        lambda e: e._replace(**{f: getattr(e, f) + by})
                    )(exact(t, x)),
                )


@pytest.mark.parametrize("name", CASES)
def test_the_exact_rates_are_the_minimum(name):
    exact = toy.net(name)
    early = {"sample_t": functools.partial(times.stratified, high=0.9)}  # less noise
    least, metrics = value(name, exact, **early)
    # of all examples together the edits left are as many as expected
    np.testing.assert_allclose(metrics["edits_left"], metrics["edits_expected"], rtol=0.02)
    tried = set()
    for field, other in changed(exact):
        if name != "empty" or field == "insert":
            assert value(name, other, **early)[0] > least + 1e-3, field
            tried.add(field)
    assert tried == ({"insert"} if name == "empty" else set(edits.Edits._fields))


def bound(name, once=False, n=200_000):
    """Nats for a row; more times near 1, where few rows differ and by much, and less weight."""
    low = 0.06  # the times above 1 − low⁴ are too few to matter
    s = low + (1 - low) * jnp.arange(n) / n
    case, net = CASES[name], toy.net(name, once)
    batch = Batch(toy.draws(jax.random.key(4), n, once))
    options = {"source": case.source, "align": case.align, "end": END}
    loss, _ = edit_flow(
        Nets(net, net, net), KEY, batch, sample_t=lambda key, n: 1 - s**4, **options
    )
    return float((4 * s**3 * loss).mean()) * (1 - low) * toy.N


def test_out_of_nothing_and_with_no_token_twice_the_minimum_is_the_entropy():
    law = toy.ONCE[toy.DISTINCT]
    np.testing.assert_allclose(bound("empty", True), -(law * np.log(law)).sum(), atol=0.04)


def test_elsewhere_the_minimum_is_a_bound():
    entropy = -(toy.LAW * np.log(toy.LAW)).sum()
    assert entropy < bound("empty") < entropy + 0.5
    assert bound("left") > entropy


def drawn(name, steps, n):
    net, source = toy.net(name), CASES[name].source
    run = jax.jit(lambda key, x0: edit_ctmc(net, key, x0, end=END, steps=steps, high=False))
    x, info = run(KEY, source(jax.random.key(7), jnp.zeros((n, toy.N), jnp.int32)))
    assert info.nfe == steps
    return x


@pytest.mark.parametrize("name", CASES)
def test_the_chain_ends_in_the_law_of_the_data_and_its_error_halves_with_the_steps(name):
    errors = [
        toy.variation(drawn(name, k, n)) for k, n in ((8, 10_000), (16, 10_000), (64, 30_000))
    ]
    assert errors[-1] < 0.03
    assert errors[0] / errors[1] > 1.4


def test_the_chain_calls_its_net_once_a_step_and_keeps_rows_compact():
    calls = []

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda: calls.append(1))
        z = jnp.zeros((*x.shape, toy.V)).at[..., END].set(IMPOSSIBLE)
        return edits.Edits(z, jnp.zeros(x.shape), z)

    x0 = CASES["left"].source(KEY, jnp.zeros((50, toy.N), jnp.int32))
    x, info = edit_ctmc(net, KEY, x0, end=END, steps=5)
    jax.effects_barrier()
    assert len(calls) == info.nfe == 5
    assert x.dtype == x0.dtype
    np.testing.assert_array_equal(x, edits.compact(x, end=END, width=toy.N))


def test_temperature_and_nucleus_change_which_token_and_not_how_often():
    log_u = jnp.log(jnp.array([0.6, 0.2, 1e-30]))[None, None]

    def net(t, x, cond=None, *, key=None):
        nothing = jnp.full((*x.shape, toy.V), IMPOSSIBLE)
        insert = jnp.where((edits.anchors(x, end=END) & (t < 0.1))[..., None], log_u, nothing)
        return edits.Edits(insert, nothing[..., 0], nothing)

    x0 = jnp.full((20_000, 2), END)
    for options, share in (({}, 0.75), ({"temperature": 0.5}, 0.9), ({"top_p": 0.5}, 1.0)):
        x, _ = edit_ctmc(net, KEY, x0, end=END, steps=1, **options)
        first = np.bincount(np.asarray(x[:, 0]), minlength=3) / len(x)
        np.testing.assert_allclose(first, [0.8 * share, 0.8 * (1 - share), 0.2], atol=0.01)
    np.testing.assert_array_equal(_tokens.sharper()(log_u), log_u)


def test_bad_options_are_named():
    net, x0 = toy.net("empty"), jnp.full((2, toy.N), END)
    with pytest.raises(ValueError, match="steps=0"):
        edit_ctmc(net, KEY, x0, end=END, steps=0)
    with pytest.raises(ValueError, match="end=None"):
        edit_ctmc(net, KEY, x0, end=None)
    with pytest.raises(ValueError, match="temperature=0"):
        edit_ctmc(net, KEY, x0, end=END, temperature=0.0)
    source = CASES["empty"].source
    with pytest.raises(ValueError, match="end=None"):
        edit_flow(Nets(net, net, net), KEY, Batch(x0), source=source, end=None)
    wrong = lambda t, x, c=None, *, key=None: jnp.zeros((2, toy.N, 3))  # noqa: E731
    with pytest.raises(ValueError, match=r"expected edits\.Edits"):
        edit_flow(Nets(wrong, wrong, wrong), KEY, Batch(x0), source=source, end=END)


def network(x, **options):
    """A small one, after a little noise."""
    sizes = {"vocabulary": 5, "end": 4, "width": 16, "depth": 2, "heads": 2}
    model = edit_transformer(**sizes, **options)
    params = model.init(KEY, Batch(x))
    return model, jax.tree.map(lambda p: p + 0.2 * jax.random.normal(KEY, p.shape), params)


def test_the_network_gives_rates_of_what_can_be():
    x = jnp.array([[0, 1, 3, 4, 4], [4, 4, 4, 4, 4], [3, 2, 1, 0, 2]])
    model, params = network(x)
    found = model.apply(params, jnp.array([0.1, 0.5, 0.9]), x)
    assert found.insert.shape == found.substitute.shape == (3, 5, 5)
    assert found.delete.shape == (3, 5)
    text, anchors = np.asarray(x != 4), np.arange(5)[None] <= np.array([[3], [0], [5]])
    possible = jax.tree.map(lambda a: np.asarray(a > -100), found)
    np.testing.assert_array_equal(possible.delete, text)
    tokens = np.arange(5)[None, None] != 4
    np.testing.assert_array_equal(possible.insert, anchors[..., None] & tokens)
    other = tokens & (np.arange(5)[None, None] != np.asarray(x)[..., None])
    np.testing.assert_array_equal(possible.substitute, text[..., None] & other)
    assert all((np.asarray(a)[p] < 10).all() for a, p in zip(found, possible, strict=True))


def test_ends_tell_nothing():
    x = jnp.array([[0, 1, 3, 4, 4], [2, 4, 4, 4, 4]])
    model, params = network(x)
    found = model.apply(params, 0.3, x)
    wider = model.apply(params, 0.3, jnp.pad(x, ((0, 0), (0, 4)), constant_values=4))
    for a, b in zip(found, wider, strict=True):
        np.testing.assert_allclose(a, b[:, :5], rtol=1e-4, atol=1e-4)
    # and the text does
    other = model.apply(params, 0.3, x.at[:, 0].set(1))
    assert not np.allclose(other.insert[0, 2, :4], found.insert[0, 2, :4], atol=1e-4)


@pytest.mark.parametrize("remat", [False, True])
def test_the_loss_of_the_network_has_finite_gradients(remat):
    x1 = jnp.array([[0, 1, 3, 4, 4], [2, 4, 4, 4, 4], [3, 2, 1, 0, 2], [4, 4, 4, 4, 4]])
    model, params = network(x1, remat=remat, dropout=0.1)
    source = functools.partial(sources.short_text, vocabulary=5, end=4, longest=3)

    @jax.jit
    def loss(params, key):
        net = functools.partial(model.apply, params)
        nets = Nets(net, net, net)
        options = {"source": source, "end": 4, "align": edits.shortest}
        return edit_flow(nets, key, Batch(x1), **options)[0].sum()

    with jax.debug_key_reuse(True):
        found, grads = jax.value_and_grad(loss)(params, jax.random.key(5))
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
    rates = edits.Edits(*(jnp.log(jnp.array([2.0, 3.0]))[:, None, None] for _ in range(3)))
    rates = rates._replace(delete=rates.delete[..., 0])

    def net(t, x, cond, *, key=None):
        return jax.tree.map(lambda a: a[cond], rates)

    guided = guidance.classifier_free(net, scale=2.0, null=np.int32(1))
    found = guided(0.5, jnp.zeros((3, 1), jnp.int32), jnp.zeros(3, jnp.int32))
    assert isinstance(found, edits.Edits)
    for a, like in zip(found, rates, strict=True):
        np.testing.assert_allclose(jnp.exp(a), np.full((3, *like.shape[1:]), 4 / 3), rtol=1e-5)


def test_rates_of_edits_are_composed_and_blended():
    kinds = jnp.log(jnp.array([2.0, 3.0]))

    def net(t, x, cond, *, key=None):
        log_rate = kinds[cond["kind"]]
        return edits.Edits(log_rate[:, None, None], log_rate[:, None], log_rate[:, None, None])

    x, t = jnp.zeros((3, 1), jnp.int32), jnp.array([0.1, 0.5, 0.9])
    cond, null = {"kind": jnp.zeros(3, jnp.int32)}, {"kind": np.int32(1)}
    composed = guidance.compose(net, null=null, scales={"kind": 2.0}, interval=(0.4, 0.6))
    blended = guidance.blend(net, other=null, amount=0.5)
    for a in composed(t, x, cond):
        np.testing.assert_allclose(jnp.exp(a).reshape(-1), [2, 4 / 3, 2], rtol=1e-5)
    for a in blended(t, x, cond):
        np.testing.assert_allclose(jnp.exp(a).reshape(-1), np.sqrt(6), rtol=1e-5)
