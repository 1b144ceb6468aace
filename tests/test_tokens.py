"""Paths of tokens against sums over all states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_tokens as toy

from fmjax import guidance, paths, tokens

KEY = jax.random.key(0)
CASES = toy.cases()
each = pytest.mark.parametrize("name", CASES)
STATES = np.stack(np.meshgrid(*2 * [np.arange(toy.V + 1)], indexing="ij"), -1).reshape(-1, 2)


def states(t, law, path):
    """All states that have mass at t, their law, and the net's masses there."""
    p = toy.joint(t, law, path, toy.LAW).sum(axis=(2, 3)).reshape(-1)
    return p, jnp.exp(toy.log_posterior(t, STATES, law, path))


@each
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_marginal_rates_carry_the_marginal_law(name, t):
    bridge, _, law, path = CASES[name]
    p, m = states(t, law, path)
    _, slope = jax.jvp(lambda t: states(t, law, path)[0], (jnp.float32(t),), (jnp.float32(1),))
    u = np.asarray(bridge.rates(t, jnp.asarray(STATES), m))
    assert (u >= 0).all()
    # one position jumps at a time: what leaves a state arrives at another
    change = np.zeros(len(STATES))
    flow = u * np.asarray(p)[:, None, None]
    for i, x in enumerate(STATES):
        for position in range(2):
            for y in range(toy.V + 1):
                to = x.copy()
                to[position] = y
                change[to[0] * (toy.V + 1) + to[1]] += flow[i, position, y]
                change[i] -= flow[i, position, y]
    np.testing.assert_allclose(change, slope, atol=2e-5)


@each
def test_a_short_step_is_the_rates_and_a_step_is_a_law(name):
    bridge, _, law, path = CASES[name]
    t, h = 0.4, 1e-3
    p, m = states(t, law, path)
    x = jnp.asarray(STATES)
    after = bridge.advance(t, t + h, x, m)
    u = bridge.rates(t, x, m)
    there = np.asarray(p) > 0
    np.testing.assert_allclose(after.sum(axis=-1)[there], 1, atol=1e-5)
    np.testing.assert_allclose(tokens.off(after, x)[there] / h, u[there], rtol=2e-2, atol=2e-3)


@each
def test_samples_of_the_path_have_its_law(name):
    bridge, source, law, path = CASES[name]
    x1 = jnp.tile(jnp.arange(toy.V, dtype=jnp.int32)[:, None], (1, 50_000))
    x = bridge.sample(KEY, 0.6, source(jax.random.key(1), x1), x1)
    found = jax.nn.one_hot(x, toy.V + 1).mean(axis=1)
    np.testing.assert_allclose(found, law(0.6, path), atol=0.01)
    ends = bridge.sample(KEY, 1.0, source(KEY, x1), x1)
    np.testing.assert_array_equal(ends, x1)


@each
def test_the_bound_of_the_exact_net_is_the_entropy_of_masks_and_above_it_elsewhere(name):
    bridge, source, law, path = CASES[name]
    net, n = toy.net(law, path), 200_000
    key_x1, key_x0, key_path = jax.random.split(KEY, 3)
    x1 = toy.draws(key_x1, n)
    t = 1e-4 + (1 - 2e-4) * jnp.arange(n) / n
    x = bridge.sample(key_path, t, source(key_x0, x1), x1)
    bound = bridge.bound(t, x, x1, net(t, x)).sum(axis=1)
    error = 4 * float(bound.std()) / n**0.5
    assert error < 0.08
    if name.startswith("mask"):
        np.testing.assert_allclose(bound.mean(), toy.ENTROPY, atol=max(error, 0.005))
    else:
        # paths to one x1 each jump once, which the chain of the marginals does not know
        assert toy.ENTROPY + 0.1 < float(bound.mean()) < 3.0


def test_the_bound_is_not_below_that_of_the_exact_net():
    bridge, source, law, path = CASES["uniform"]
    x1 = toy.draws(KEY, 20_000)
    t = (jnp.arange(len(x1)) + 0.5) / len(x1)
    x = bridge.sample(KEY, t, source(jax.random.key(1), x1), x1)
    exact = toy.net(law, path)(t, x)
    other = jax.nn.log_softmax(exact * 0.7)
    bound = lambda m: float(bridge.bound(t, x, x1, m).mean())  # noqa: E731
    assert bound(other) > bound(exact) + 0.01


def test_guided_masses_are_rates_to_powers():
    bridge, _, law, path = CASES["uniform"]
    x = jnp.asarray(toy.PAIRS)
    nets = [toy.net(law, path, table) for table in toy.CONDITIONAL]

    def net(t, x, cond, *, key=None):  # class 1 is the absent one
        return jnp.where((cond == 0)[:, None, None], nets[0](t, x), nets[1](t, x))

    guided = guidance.classifier_free(net, scale=1.7, null=np.int32(1))
    m = jnp.exp(guided(0.3, x, jnp.zeros(len(x), jnp.int32)))
    rates = [bridge.rates(0.3, x, jnp.exp(n(0.3, x))) for n in nets]
    wanted = rates[0] ** 1.7 * jnp.where(rates[1] > 0, rates[1], 1) ** (1 - 1.7)
    np.testing.assert_allclose(bridge.rates(0.3, x, m), wanted, rtol=1e-3, atol=1e-5)


def test_the_kinetic_rates_of_a_mixture_are_the_mixtures():
    mixture, _, law, path = CASES["uniform"]
    log_law = jax.vmap(lambda t: jnp.log(law(t, path) + 1e-30))
    kinetic = tokens.kinetic(log_law)
    x = jnp.asarray(toy.PAIRS)
    m = jnp.exp(toy.log_posterior(0.4, x, law, path))
    np.testing.assert_allclose(
        kinetic.rates(0.4, x, m), mixture.rates(0.4, x, m), rtol=1e-4, atol=1e-5
    )


def test_hazards_integrate_to_the_scheduler():
    for path in (paths.linear(), tokens.cosine(), paths.polynomial(power=2.0)):
        t = jnp.linspace(0, 0.9, 2001)
        area = jnp.trapezoid(tokens.hazard(t, path=path), t)
        np.testing.assert_allclose(jnp.exp(-area), 1 - path.alpha(0.9), rtol=1e-3)


@pytest.mark.parametrize("high", [True, False])
def test_rare_states_are_drawn_as_often_as_they_should_be(high):
    # a thousand states of e^-12 each beside one of 1
    logits = jnp.tile(jnp.pad(jnp.zeros(1), (0, 1000), constant_values=-12.0)[None], (10_000, 1))
    rare = int((tokens.categorical(KEY, logits, high=high) > 0).sum())
    expected = 10_000 * 1000 * np.exp(-12.0)
    assert abs(rare - expected) < 5 * expected**0.5
    wanted = jnp.argmax(
        logits + jax.random.gumbel(KEY, logits.shape, mode="high" if high else "low"), axis=-1
    )
    np.testing.assert_array_equal(tokens.categorical(KEY, logits, high=high), wanted)


def test_low_noise_ends_where_float32_does():
    ends = [float(jax.random.gumbel(KEY, (2**24,), mode=mode).max()) for mode in ("low", "high")]
    assert ends[0] < 15.95
    assert ends[1] > 16.0


def test_rates_of_a_metric_are_there_from_the_start_and_vanished_masses_stay():
    bridge, _, law, path = CASES["metric"]
    x = jnp.asarray(toy.PAIRS)
    m = jnp.exp(toy.log_posterior(1e-4, x, law, path))
    assert float(bridge.rates(0.0, x, m).sum(axis=-1).min()) > 0
    after = tokens.mixture().advance(0.2, 0.5, x, jnp.zeros_like(m))
    np.testing.assert_array_equal(after, jax.nn.one_hot(x, toy.V + 1))


@pytest.mark.parametrize("law", [tokens.prefix, tokens.scattered])
def test_what_is_known_is_so_in_a_share_of_the_examples(law):
    x1 = jnp.zeros((4000, 12), jnp.int32)
    known = law(KEY, x1, share=0.5)
    assert known.shape == x1.shape
    assert 0.4 < float((~known).all(axis=1).mean()) < 0.65
    if law is tokens.prefix:
        assert not bool((known[:, 1:] & ~known[:, :-1]).any())
    assert not bool(functools.partial(law, share=0.0)(KEY, x1).any())


def test_distances_are_checked():
    with pytest.raises(ValueError, match="square of numbers"):
        tokens.metric(distance=np.ones((3, 3)))
    d = tokens.linear_distance(vocabulary=5)
    assert d[0, 4] == 1
    assert d[2, 2] == 0
