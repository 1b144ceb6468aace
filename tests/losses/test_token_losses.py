"""Objectives of tokens with exact nets: their minimum and its value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_tokens as toy

from fmjax import codecs, times, tokens, train
from fmjax.data.in_memory import in_memory
from fmjax.losses.autoregressive import autoregressive
from fmjax.losses.discrete_flow_matching import discrete_flow_matching
from fmjax.losses.generalised_kl import generalised_kl
from fmjax.losses.self_distillation import self_distillation
from fmjax.metrics.token_nll import token_nll
from fmjax.models._tokens import IMPOSSIBLE
from fmjax.models.token_transformer import carried, token_transformer
from fmjax.types import Batch, Nets

KEY = jax.random.key(0)
CASES = toy.cases()
BATCH = Batch(toy.draws(KEY, 20_000))
FEW = Batch(BATCH.x1[:5000])  # a change's loss has a noise of 0.001 here, and is far more
KINDS = {"cross_entropy": discrete_flow_matching, "bound": generalised_kl}


NETS = {name: toy.net(law, path) for name, (_, _, law, path) in CASES.items()}
CHANGES = np.array([[1, 0], [0.8, 0], [1.2, 0], [1, 1]], np.float32)  # the first is none
TILT = np.array([0.5, -0.3, 0.0, -0.2], np.float32)


def changed(net, change):
    """Masses to a power, and tilted."""
    return lambda t, x, c=None, *, key=None: change[0] * net(t, x) + change[1] * TILT[None, None]


def mean(kind, name, net, batch, **options):
    bridge, source, _, _ = CASES[name]
    options = {"sample_t": functools.partial(times.stratified, high=0.999), **options}
    loss, metrics = KINDS[kind](
        Nets(net, net, net), KEY, batch, bridge=bridge, source=source, **options
    )
    assert loss.shape == (len(batch.x1),)
    assert all(m.shape == loss.shape for m in metrics.values())
    return loss.mean()


def value(kind, name, net, batch=BATCH, **options):
    return float(jax.jit(lambda batch: mean(kind, name, net, batch, **options))(batch))


@pytest.mark.parametrize("name", ["mask", "uniform", "metric"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_posterior_is_the_minimum(kind, name):
    def loss(change):
        net = changed(NETS[name], change)
        normal = lambda t, x, c=None, *, key=None: jax.nn.log_softmax(net(t, x))  # noqa: E731
        return mean(kind, name, normal, BATCH)

    # of all nets at once: what they are asked about, and the exact masses there, are the same
    least, *others = jax.jit(jax.vmap(loss))(CHANGES)
    assert all(other > least + 5e-4 for other in others)


def test_the_weighted_cross_entropy_of_masks_is_the_bound():
    net = NETS["mask"]
    weight = functools.partial(tokens.hazard, path=CASES["mask"][3])
    weighted = value("cross_entropy", "mask", net, weight=weight)
    np.testing.assert_allclose(weighted, value("bound", "mask", net), rtol=1e-4)
    np.testing.assert_allclose(weighted, toy.ENTROPY / 2, atol=0.02)


def test_what_is_known_is_not_counted():
    seen = []

    def net(t, x, c=None, *, key=None):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return jnp.full((*x.shape, toy.V), -1.0)

    known = lambda key, x1: jnp.tile(jnp.array([[True, False]]), (len(x1), 1))  # noqa: E731
    assert value("cross_entropy", "mask", net, fixed=known) == pytest.approx(np.log(toy.V))
    jax.effects_barrier()
    np.testing.assert_array_equal(seen[0][:, 0], BATCH.x1[:, 0])


def test_conditions_are_dropped_and_shapes_checked():
    batch, shares = BATCH._replace(cond=np.zeros(len(BATCH.x1), np.int32)), []

    def net(t, x, c=None, *, key=None):
        jax.debug.callback(lambda c: shares.append(np.mean(c)), c)
        return jnp.full((*x.shape, toy.V), -1.0)

    value("bound", "mask", net, batch, drop=0.25, null=np.int32(1))
    jax.effects_barrier()
    assert 0.2 < shares[0] < 0.3
    with pytest.raises(ValueError, match="one log-mass for each token"):
        value("bound", "mask", lambda t, x, c=None, *, key=None: x.astype(jnp.float32))


def distillation(student, teacher, batch=BATCH, **options):
    bridge, source, _, _ = CASES["mask"]
    loss, _ = self_distillation(
        Nets(student, None, None, teacher), KEY, batch, bridge=bridge, source=source, **options
    )
    return loss.mean()


def distilled(student, teacher, **options):
    return float(jax.jit(lambda batch: distillation(student, teacher, batch, **options))(BATCH))


def constant(t, x, cond=None, *, key=None):
    return jnp.log(jnp.full((*x.shape, toy.V), 1 / toy.V))


def test_one_small_step_of_the_teacher_is_its_masses():
    exact = NETS["mask"]
    assert distilled(exact, exact, steps=4, inner=1) == pytest.approx(0, abs=1e-6)
    p = np.exp(jax.jit(exact)(0.0, np.full((1, 2), toy.V))[0])
    wanted = np.sum(p * np.log(p * toy.V), axis=-1).mean()
    assert distilled(constant, exact, steps=1, inner=1) == pytest.approx(float(wanted), rel=1e-4)
    other = -np.log(p * toy.V).mean()
    found = distilled(constant, exact, steps=1, inner=1, reverse=True)
    assert found == pytest.approx(float(other), rel=1e-4)


def test_what_is_distilled_is_the_mean_over_masks():
    said = np.log(np.array([0.7, 0.1, 0.1, 0.1], np.float32))
    teacher = lambda t, x, c=None, *, key=None: jnp.broadcast_to(said, (*x.shape, toy.V))  # noqa: E731
    each = float(np.sum(np.exp(said) * (said + np.log(toy.V))))
    # t is 0 or a half, where a quarter of the pairs have no mask left
    share = (1 + 3 / 4) / 2
    assert distilled(constant, teacher, steps=2) == pytest.approx(each * share, rel=0.01)


def test_a_teacher_has_no_gradient():
    def loss(scale):
        teacher = lambda t, x, c=None, *, key=None: scale * NETS["mask"](t, x)  # noqa: E731
        return distillation(constant, teacher, FEW)

    assert jax.jit(jax.grad(loss))(1.0) == 0


def test_the_student_of_an_exact_teacher_is_itself_and_sees_several_steps():
    exact = NETS["mask"]

    def loss(change):
        return distillation(changed(exact, change), exact, FEW, steps=2, inner=8)

    least, *others = jax.jit(jax.vmap(loss))(CHANGES)
    assert least > 0.01  # the targets know more than x_t, and differ from chain to chain
    assert all(other > least + 5e-4 for other in others)


def test_a_student_learns_what_its_teacher_says_later():
    """A teacher of two opinions, before and after t = 1/2, whose chain has both."""
    early, late = np.log(np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]], np.float32))
    shares = np.array([0.3, 0.4, 0.5, 0.6, 0.7], np.float32)

    def teacher(t, x, cond=None, *, key=None):
        said = jnp.where(jnp.reshape(t, (-1, 1, 1)) < 0.5, early, late)
        return jnp.broadcast_to(said, (*x.shape, toy.V))

    def loss(share):
        mixed = jnp.log(share * jnp.exp(early) + (1 - share) * jnp.exp(late))
        student = lambda t, x, c=None, *, key=None: jnp.broadcast_to(mixed, (*x.shape, toy.V))  # noqa: E731
        return distillation(student, teacher, steps=1, inner=2)

    # half of the masks end in the first of two steps
    assert shares[np.argmin(jax.jit(jax.vmap(loss))(shares))] == 0.5


def test_distillation_takes_the_guidance_of_its_teacher_and_needs_one():
    exact = NETS["mask"]
    doubled = lambda net: lambda t, x, c=None, *, key=None: 2 * net(t, x)  # noqa: E731
    sharp = lambda t, x, c=None, *, key=None: jax.nn.log_softmax(2 * exact(t, x))  # noqa: E731
    assert distilled(sharp, exact, guidance=doubled, inner=1) == pytest.approx(0, abs=1e-6)
    more = lambda net: lambda t, x, c=None, *, key=None: net(t, x) + 3.0  # noqa: E731
    plain = distilled(constant, exact, inner=2)
    assert distilled(constant, exact, guidance=more, inner=2) == pytest.approx(plain, rel=1e-5)
    with pytest.raises(ValueError, match=r"give config\.teacher"):
        distilled(exact, None)
    with pytest.raises(ValueError, match="inner=0"):
        distilled(exact, exact, inner=0)


def causal(t, x, cond=None, *, key=None):
    first = np.log(toy.LAW.sum(axis=1))
    second = jnp.asarray(np.log(toy.LAW / toy.LAW.sum(axis=1, keepdims=True)))
    return jnp.stack([jnp.tile(first[None], (len(x), 1)), second[x[:, 1] % toy.V]], axis=1)


def test_one_after_another_the_likelihood_is_exact():
    nets = Nets(causal, causal, causal)
    loss, _ = jax.jit(lambda batch: autoregressive(nets, KEY, batch, vocabulary=toy.V))(BATCH)
    x1 = np.asarray(BATCH.x1)
    wanted = -np.log(toy.LAW[x1[:, 0], x1[:, 1]]) / 2
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)


def test_the_evaluator_counts_tokens_characters_and_words():
    rows = Batch(np.asarray(BATCH.x1[:300]))
    data = in_memory({"train": rows, "test": rows}, batch_size=4)
    _, source, law, path = CASES["mask"]
    net = train.bind(train.Model(None, lambda params, *a, **k: toy.net(law, path)(*a, **k)), {})
    bound = functools.partial(
        generalised_kl,
        source=source,
        bridge=tokens.mixture(),
        sample_t=functools.partial(times.stratified, high=0.999),
    )
    found = token_nll(net, KEY, data, None, objective=bound, draws=32)
    exact = -np.log(toy.LAW[rows.x1[:, 0], rows.x1[:, 1]]).mean() / 2
    assert abs(found["nll_nats"] - exact) < 5 * found["nll_nats_spread"] + 0.01
    assert found["bits_per_token"] == pytest.approx(found["nll_nats"] / np.log(2))
    assert (found["nll_draws"], found["nll_n"]) == (32, 300)
    assert "bits_per_char" not in found
    # what fills a row after its end is no token, and its cost is the text's
    ended = codecs.identity()._replace(end=0, write=lambda row: "ab cd")
    again = token_nll(net, KEY, data, None, objective=bound, draws=32, codec=ended)
    counts = np.where(rows.x1[:, 0] == 0, 1, 2)
    assert again["nll_nats"] == pytest.approx(found["nll_nats"] * 600 / counts.sum())
    bits = found["nll_nats"] * 600 / np.log(2)
    assert again["bits_per_char"] == pytest.approx(bits / 1500)
    assert again["perplexity_per_word"] == pytest.approx(2 ** (bits / 600))
    with pytest.raises(ValueError, match="draws=0"):
        token_nll(net, KEY, data, None, objective=bound, draws=0)


def masses(model, x, t, cond=None):
    """Of a network with a little noise, and those with what is no mask carried."""

    @jax.jit
    def both(x, cond):
        params = model.init(KEY, Batch(x, cond))
        params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(KEY, p.shape), params)
        m = model.apply(params, t, x, cond)
        return m, carried(m, x)

    return jax.tree.map(np.asarray, both(x, cond))


def test_the_network_gives_masses_and_carries_what_is_no_mask():
    model = token_transformer(vocabulary=5, width=16, depth=1, heads=2, num_classes=2)
    x = np.random.default_rng(0).integers(0, 6, (3, 7))
    cond = np.array([0, 1, 2])
    m, kept = masses(model, x, 0.3, cond)
    assert m.shape == (3, 7, 5)
    assert m.dtype == jnp.float32
    np.testing.assert_allclose(np.exp(m).sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(kept[x == 5], m[x == 5])
    certain = np.where(x[..., None] == np.arange(5), np.float32(0), np.float32(IMPOSSIBLE))
    np.testing.assert_array_equal(kept[x < 5], certain[x < 5])


def test_a_causal_network_sees_nothing_later():
    options = {"vocabulary": 5, "width": 16, "depth": 2, "heads": 2}
    x = np.random.default_rng(0).integers(0, 5, (2, 8))
    cut = np.where(np.arange(8)[None] < 5, x, 0)
    for causal in (True, False):
        model = token_transformer(**options, causal=causal)
        m, other = np.split(masses(model, np.concatenate([x, cut]), 1.0)[0], 2)
        same = np.isclose(m, other, atol=1e-6).all(axis=(0, 2))
        assert same[:5].all() == causal
        assert not same[5:].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"vocabulary": 0}, "vocabulary=0"), ({"vocabulary": 3, "heads": 5}, "with 5 heads")],
)
def test_the_network_checks_its_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        token_transformer(**options)


def test_the_network_is_for_tokens():
    model = token_transformer(vocabulary=3, width=8, depth=1, heads=1)
    with pytest.raises(ValueError, match="expected tokens"):
        model.init(KEY, Batch(jnp.zeros((2, 3))))
