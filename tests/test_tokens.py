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


@functools.cache
def marginal(name):
    """t -> the law, its slope and the rates there."""
    bridge, _, law, path = CASES[name]

    def of(t):
        p, slope, m = jax.jvp(lambda t: states(t, law, path), (t,), (1.0,), has_aux=True)
        return p, slope, bridge.rates(t, jnp.asarray(STATES), m)

    return jax.jit(of)


@each
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_marginal_rates_carry_the_marginal_law(name, t):
    p, slope, u = jax.tree.map(np.asarray, marginal(name)(t))
    assert (u >= 0).all()
    # one position jumps at a time: what leaves a state arrives at another
    change = np.zeros(len(STATES))
    flow = u * p[:, None, None]
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

    @jax.jit
    def both():
        p, m = states(t, law, path)
        x = jnp.asarray(STATES)
        after = bridge.advance(t, t + h, x, m)
        return p, after, tokens.off(after, x), bridge.rates(t, x, m)

    p, after, away, u = jax.tree.map(np.asarray, both())
    there = p > 0
    np.testing.assert_allclose(after.sum(axis=-1)[there], 1, atol=1e-5)
    np.testing.assert_allclose(away[there] / h, u[there], rtol=2e-2, atol=2e-3)


@each
def test_samples_of_the_path_have_its_law(name):
    bridge, source, law, path = CASES[name]
    x1 = np.tile(np.arange(toy.V, dtype=np.int32)[:, None], (1, 50_000))

    @jax.jit
    def sample(key, t, x1):
        return bridge.sample(KEY, t, source(key, x1), x1)

    x = np.asarray(sample(jax.random.key(1), 0.6, x1))
    found = np.stack([np.bincount(row, minlength=toy.V + 1) for row in x]) / x.shape[1]
    np.testing.assert_allclose(found, jax.jit(lambda: law(0.6, path))(), atol=0.01)
    ends = sample(KEY, 1.0, x1)
    np.testing.assert_array_equal(ends, x1)


@each
def test_the_bound_of_the_exact_net_is_the_entropy_of_masks_and_above_it_elsewhere(name):
    bridge, source, law, path = CASES[name]
    net, n = toy.net(law, path), 200_000

    @jax.jit
    def bounds():
        key_x1, key_x0, key_path = jax.random.split(KEY, 3)
        x1 = toy.draws(key_x1, n)
        t = 1e-4 + (1 - 2e-4) * jnp.arange(n) / n
        x = bridge.sample(key_path, t, source(key_x0, x1), x1)
        return bridge.bound(t, x, x1, net(t, x)).sum(axis=1)

    bound = np.asarray(bounds())
    error = 4 * float(bound.std()) / n**0.5
    assert error < 0.08
    if name.startswith("mask"):
        np.testing.assert_allclose(bound.mean(), toy.ENTROPY, atol=max(error, 0.005))
    else:
        # paths to one x1 each jump once, which the chain of the marginals does not know
        assert toy.ENTROPY + 0.1 < float(bound.mean()) < 3.0


def test_the_bound_is_not_below_that_of_the_exact_net():
    bridge, source, law, path = CASES["uniform"]

    @jax.jit
    def bounds():
        x1 = toy.draws(KEY, 20_000)
        t = (jnp.arange(len(x1)) + 0.5) / len(x1)
        x = bridge.sample(KEY, t, source(jax.random.key(1), x1), x1)
        exact = toy.net(law, path)(t, x)
        other = jax.nn.log_softmax(exact * 0.7)
        return [bridge.bound(t, x, x1, m).mean() for m in (exact, other)]

    exact, other = bounds()
    assert other > exact + 0.01


def test_guided_masses_are_rates_to_powers():
    bridge, _, law, path = CASES["uniform"]
    nets = [toy.net(law, path, table) for table in toy.CONDITIONAL]

    def net(t, x, cond, *, key=None):  # class 1 is the absent one
        return jnp.where((cond == 0)[:, None, None], nets[0](t, x), nets[1](t, x))

    guided = guidance.classifier_free(net, scale=1.7, null=np.int32(1))

    @jax.jit
    def rates(x):
        masses = guided(0.3, x, jnp.zeros(len(x), jnp.int32)), *(n(0.3, x) for n in nets)
        return [bridge.rates(0.3, x, jnp.exp(m)) for m in masses]

    found, one, absent = jax.tree.map(np.asarray, rates(toy.PAIRS))
    wanted = one**1.7 * np.where(absent > 0, absent, 1) ** (1 - 1.7)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_the_kinetic_rates_of_a_mixture_are_the_mixtures():
    mixture, _, law, path = CASES["uniform"]
    log_law = jax.vmap(lambda t: jnp.log(law(t, path) + 1e-30))
    kinetic = tokens.kinetic(log_law)

    @jax.jit
    def rates(x):
        m = jnp.exp(toy.log_posterior(0.4, x, law, path))
        return kinetic.rates(0.4, x, m), mixture.rates(0.4, x, m)

    np.testing.assert_allclose(*rates(toy.PAIRS), rtol=1e-4, atol=1e-5)


def test_hazards_integrate_to_the_scheduler():
    for path in (paths.linear(), tokens.cosine(), paths.polynomial(power=2.0)):
        t = np.linspace(0, 0.9, 2001, dtype=np.float32)
        hazard = jax.jit(lambda t, path=path: tokens.hazard(t, path=path))(t)
        area = np.trapezoid(hazard, t)
        np.testing.assert_allclose(np.exp(-area), 1 - path.alpha(0.9), rtol=1e-3)


def rare(high, log_odds, rows):
    """How many of these rows' draws are rare: a thousand states of such log-odds beside one of 1.

    And whether each is the place of the greatest of the logits with Gumbel's noise.
    """
    mode = "high" if high else "low"

    @jax.jit
    def both():
        one = jnp.pad(jnp.zeros(1), (0, 1000), constant_values=log_odds)
        logits = jnp.tile(one[None], (rows, 1))
        wanted = jnp.argmax(logits + jax.random.gumbel(KEY, logits.shape, mode=mode), axis=-1)
        return tokens.categorical(KEY, logits, high=high), wanted

    found, wanted = jax.tree.map(np.asarray, both())
    np.testing.assert_array_equal(found, wanted)
    return int((found > 0).sum())


@pytest.mark.parametrize("high", [True, False])
def test_rare_states_are_drawn_as_often_as_they_should_be(high):
    expected = 1000 * 1000 * np.exp(-9.0)
    assert abs(rare(high, -9.0, 1000) - expected) < 5 * expected**0.5


@pytest.mark.complete
@pytest.mark.parametrize("high", [True, False])
def test_very_rare_states_are_drawn_as_often_as_they_should_be(high):
    expected = 10_000 * 1000 * np.exp(-12.0)
    assert abs(rare(high, -12.0, 10_000) - expected) < 5 * expected**0.5


def most(key, n):
    """The greatest noise of so many draws, by the low mode and the high one."""
    gumbel = functools.partial(jax.random.gumbel, key, (n,))
    return jax.jit(lambda: [gumbel(mode=mode).max() for mode in ("low", "high")])()


def test_low_noise_ends_where_float32_does():
    low, high = most(jax.random.key(34), 2**20)  # of nine such keys in ten none is so large
    assert low < 15.95
    assert high > 16.0


@pytest.mark.complete
def test_low_noise_ends_there_in_many_draws():
    low, high = most(KEY, 2**24)
    assert low < 15.95
    assert high > 16.0


def test_rates_of_a_metric_are_there_from_the_start_and_vanished_masses_stay():
    bridge, _, law, path = CASES["metric"]

    @jax.jit
    def both(x):
        m = jnp.exp(toy.log_posterior(1e-4, x, law, path))
        after = tokens.mixture().advance(0.2, 0.5, x, jnp.zeros_like(m))
        return bridge.rates(0.0, x, m), after

    rates, after = jax.tree.map(np.asarray, both(toy.PAIRS))
    assert rates.sum(axis=-1).min() > 0
    np.testing.assert_array_equal(after, np.eye(toy.V + 1)[toy.PAIRS])


@pytest.mark.parametrize("law", [tokens.prefix, tokens.scattered])
def test_what_is_known_is_so_in_a_share_of_the_examples(law):
    x1 = np.zeros((4000, 12), np.int32)
    run = jax.jit(lambda x1, share: law(KEY, x1, share=share), static_argnums=1)
    known = np.asarray(run(x1, 0.5))
    assert known.shape == x1.shape
    assert 0.4 < float((~known).all(axis=1).mean()) < 0.65
    if law is tokens.prefix:
        assert not bool((known[:, 1:] & ~known[:, :-1]).any())
    assert not np.asarray(run(x1, 0.0)).any()


@pytest.mark.parametrize(("law", "choices"), [(tokens.prefix, 12), (tokens.scattered, 13)])
def test_how_many_are_known_is_uniform(law, choices):
    # of 12: the whole is no prefix; coins of uniform odds come up equally often any number of times
    run = jax.jit(lambda x1: law(KEY, x1, share=1.0))
    counts = np.asarray(run(np.zeros((20_000, 12), np.int32))).sum(axis=1)
    np.testing.assert_allclose(
        np.bincount(counts) / 20_000, np.full(choices, 1 / choices), atol=0.01
    )


def test_distances_are_checked():
    with pytest.raises(ValueError, match="square of numbers"):
        tokens.metric(distance=np.ones((3, 3)))
    d = tokens.linear_distance(vocabulary=5)
    assert d[0, 4] == 1
    assert d[2, 2] == 0
