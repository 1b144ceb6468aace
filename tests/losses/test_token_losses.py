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
KINDS = {"cross_entropy": discrete_flow_matching, "bound": generalised_kl}


def value(kind, name, net, batch=BATCH, **options):
    bridge, source, _, _ = CASES[name]
    options = {"sample_t": functools.partial(times.stratified, high=0.999), **options}
    loss, metrics = KINDS[kind](
        Nets(net, net, net), KEY, batch, bridge=bridge, source=source, **options
    )
    assert loss.shape == (len(batch.x1),)
    assert all(m.shape == loss.shape for m in metrics.values())
    return float(loss.mean())


@pytest.mark.parametrize("name", ["mask", "uniform", "metric"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_posterior_is_the_minimum(kind, name):
    _, _, law, path = CASES[name]
    exact = toy.net(law, path)
    least = value(kind, name, exact)
    tilt = jnp.asarray([0.5, -0.3, 0.0, -0.2])
    for change in (lambda m: 0.8 * m, lambda m: 1.2 * m, lambda m: m + tilt[None, None]):
        other = lambda t, x, c=None, *, key=None, f=change: jax.nn.log_softmax(  # noqa: E731
            f(exact(t, x))
        )
        assert value(kind, name, other) > least + 5e-4


def test_the_weighted_cross_entropy_of_masks_is_the_bound():
    _, _, law, path = CASES["mask"]
    net = toy.net(law, path)
    weight = functools.partial(tokens.hazard, path=path)
    weighted = value("cross_entropy", "mask", net, weight=weight)
    np.testing.assert_allclose(weighted, value("bound", "mask", net), rtol=1e-4)
    np.testing.assert_allclose(weighted, toy.ENTROPY / 2, atol=0.02)


def test_what_is_known_is_not_counted():
    seen = []

    def net(t, x, c=None, *, key=None):
        seen.append(x)
        return jnp.full((*x.shape, toy.V), -1.0)

    known = lambda key, x1: jnp.tile(jnp.array([[True, False]]), (len(x1), 1))  # noqa: E731
    assert value("cross_entropy", "mask", net, fixed=known) == pytest.approx(np.log(toy.V))
    np.testing.assert_array_equal(seen[0][:, 0], BATCH.x1[:, 0])


def test_conditions_are_dropped_and_shapes_checked():
    batch = BATCH._replace(cond=jnp.zeros(len(BATCH.x1), jnp.int32))

    def net(t, x, c=None, *, key=None):
        assert 0.2 < float(c.mean()) < 0.3
        return jnp.full((*x.shape, toy.V), -1.0)

    value("bound", "mask", net, batch, drop=0.25, null=np.int32(1))
    with pytest.raises(ValueError, match="one log-mass for each token"):
        value("bound", "mask", lambda t, x, c=None, *, key=None: x.astype(jnp.float32))


def distilled(student, teacher, **options):
    bridge, source, _, _ = CASES["mask"]
    loss, _ = self_distillation(
        Nets(student, None, None, teacher), KEY, BATCH, bridge=bridge, source=source, **options
    )
    return float(loss.mean())


def constant(t, x, cond=None, *, key=None):
    return jnp.log(jnp.full((*x.shape, toy.V), 1 / toy.V))


def test_one_small_step_of_the_teacher_is_its_masses():
    _, source, law, path = CASES["mask"]
    exact = toy.net(law, path)
    assert distilled(exact, exact, steps=4, inner=1) == pytest.approx(0, abs=1e-6)
    x0 = source(KEY, BATCH.x1)
    p = jnp.exp(exact(0.0, x0[:1])[0])
    wanted = jnp.sum(p * jnp.log(p * toy.V), axis=-1).mean()
    assert distilled(constant, exact, steps=1, inner=1) == pytest.approx(float(wanted), rel=1e-4)
    other = -jnp.mean(jnp.log(p * toy.V), axis=-1).mean()
    found = distilled(constant, exact, steps=1, inner=1, reverse=True)
    assert found == pytest.approx(float(other), rel=1e-4)


def test_what_is_distilled_is_the_mean_over_masks():
    said = jnp.log(jnp.asarray([0.7, 0.1, 0.1, 0.1]))
    teacher = lambda t, x, c=None, *, key=None: jnp.broadcast_to(said, (*x.shape, toy.V))  # noqa: E731
    each = float(jnp.sum(jnp.exp(said) * (said + jnp.log(toy.V))))
    # t is 0 or a half, where a quarter of the pairs have no mask left
    share = (1 + 3 / 4) / 2
    assert distilled(constant, teacher, steps=2) == pytest.approx(each * share, rel=0.01)


def test_a_teacher_has_no_gradient():
    def loss(scale):
        bridge, source, law, path = CASES["mask"]
        teacher = lambda t, x, c=None, *, key=None: scale * toy.net(law, path)(t, x)  # noqa: E731
        nets = Nets(constant, None, None, teacher)
        return self_distillation(nets, KEY, BATCH, bridge=bridge, source=source)[0].mean()

    assert jax.grad(loss)(1.0) == 0


def test_the_student_of_an_exact_teacher_is_itself_and_sees_several_steps():
    _, _, law, path = CASES["mask"]
    exact = toy.net(law, path)
    tilt = jnp.asarray([0.5, -0.3, 0.0, -0.2])
    least = distilled(exact, exact, steps=2, inner=8)
    assert least > 0.01  # the targets know more than x_t, and differ from chain to chain
    for change in (lambda m: 0.8 * m, lambda m: 1.2 * m, lambda m: m + tilt[None, None]):
        other = lambda t, x, c=None, *, key=None, f=change: f(exact(t, x))  # noqa: E731
        assert distilled(other, exact, steps=2, inner=8) > least + 5e-4


def test_a_student_learns_what_its_teacher_says_later():
    """A teacher of two opinions, before and after t = 1/2, whose chain has both."""
    early, late = jnp.log(jnp.asarray([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]]))

    def teacher(t, x, cond=None, *, key=None):
        said = jnp.where(jnp.reshape(t, (-1, 1, 1)) < 0.5, early, late)
        return jnp.broadcast_to(said, (*x.shape, toy.V))

    def loss(share):
        mixed = jnp.log(share * jnp.exp(early) + (1 - share) * jnp.exp(late))
        student = lambda t, x, c=None, *, key=None: jnp.broadcast_to(mixed, (*x.shape, toy.V))  # noqa: E731
        return distilled(student, teacher, steps=1, inner=2)

    # half of the masks end in the first of two steps
    assert min((0.3, 0.4, 0.5, 0.6, 0.7), key=loss) == 0.5


def test_distillation_takes_the_guidance_of_its_teacher_and_needs_one():
    _, _, law, path = CASES["mask"]
    exact = toy.net(law, path)
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
    first = jnp.log(jnp.asarray(toy.LAW.sum(axis=1)))
    second = jnp.log(jnp.asarray(toy.LAW / toy.LAW.sum(axis=1, keepdims=True)))
    return jnp.stack([jnp.tile(first[None], (len(x), 1)), second[x[:, 1] % toy.V]], axis=1)


def test_one_after_another_the_likelihood_is_exact():
    loss, _ = autoregressive(Nets(causal, causal, causal), KEY, BATCH, vocabulary=toy.V)
    wanted = -np.log(toy.LAW[BATCH.x1[:, 0], BATCH.x1[:, 1]]) / 2
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


def test_the_network_gives_masses_and_carries_what_is_no_mask():
    model = token_transformer(vocabulary=5, width=16, depth=1, heads=2, num_classes=2)
    x = jax.random.randint(KEY, (3, 7), 0, 6)
    cond = jnp.array([0, 1, 2])
    params = model.init(KEY, Batch(x, cond))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(KEY, p.shape), params)
    m = model.apply(params, 0.3, x, cond)
    assert m.shape == (3, 7, 5)
    assert m.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(m).sum(axis=-1), 1, rtol=1e-5)
    kept = carried(m, x)
    np.testing.assert_array_equal(kept[x == 5], m[x == 5])
    certain = jnp.where(jax.nn.one_hot(x, 5, dtype=bool), 0.0, IMPOSSIBLE)
    np.testing.assert_array_equal(kept[x < 5], certain[x < 5])


def test_a_causal_network_sees_nothing_later():
    options = {"vocabulary": 5, "width": 16, "depth": 2, "heads": 2}
    x = jax.random.randint(KEY, (2, 8), 0, 5)
    for causal in (True, False):
        model = token_transformer(**options, causal=causal)
        params = model.init(KEY, Batch(x))
        params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(KEY, p.shape), params)
        m, other = (model.apply(params, 1.0, a) for a in (x, x.at[:, 5:].set(0)))
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
