"""Samplers of tokens with the exact net: their law is the data's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_tokens as toy

from fmjax import guidance, paths, sources, tokens
from fmjax.samplers import _tokens
from fmjax.samplers.adaptive_ctmc import adaptive_ctmc
from fmjax.samplers.autoregressive import autoregressive
from fmjax.samplers.confidence import confidence
from fmjax.samplers.ctmc import ctmc

KEY = jax.random.key(0)
CASES = toy.cases()
NETS = {name: toy.net(law, path) for name, (_, _, law, path) in CASES.items()}
N = 100_000  # the law of 16 pairs is found to a total variation of 0.005; of 25,000 to 0.01


def drawn(name, sampler=ctmc, *, n=N, net=None, cond=None, **options):
    bridge, source, _, _ = CASES[name]
    if sampler is ctmc:
        options["source"] = source
    net = net or NETS[name]

    @jax.jit
    def run(cond):
        x0 = source(jax.random.key(7), jnp.zeros((n, 2), jnp.int32))
        return sampler(net, KEY, x0, cond, bridge=bridge, **options)

    return run(cond)


@pytest.mark.parametrize("name", CASES)
def test_the_chain_ends_in_the_law_of_the_data_and_its_error_halves_with_the_steps(name):
    bridge, _, law, path = CASES[name]
    grid = (lambda u: 1 - (1 - u) ** 1.5) if name == "metric" else (lambda u: u)
    errors = []
    for steps in (32, 64, 128):
        times = grid(np.linspace(0, 1, steps + 1))
        errors.append(toy.apart(toy.chain(bridge, NETS[name], times, toy.noise(law, path))))
    assert errors[-1] < 0.01
    assert errors[0] / errors[1] > 1.6
    assert errors[1] / errors[2] > 1.6


def beside_the_law_of_five_steps(name, n):
    bridge, _, law, path = CASES[name]
    times = np.linspace(0, 1, 6)
    wanted = toy.chain(bridge, NETS[name], times, toy.noise(law, path))
    assert toy.apart(wanted) > 0.02  # so few steps have a law of their own
    x, info = drawn(name, n=n, steps=5)
    assert info.nfe == 5
    return toy.variation(x, wanted[: toy.V, : toy.V])


@pytest.mark.parametrize("name", CASES)
def test_samples_have_the_law_of_the_chains_steps(name):
    assert beside_the_law_of_five_steps(name, N // 4) < 0.018


@pytest.mark.complete
@pytest.mark.parametrize("name", CASES)
def test_many_samples_have_the_law_of_the_chains_steps(name):
    assert beside_the_law_of_five_steps(name, N) < 0.01


@pytest.mark.parametrize("name", ["mask", "uniform", "metric"])
def test_churn_and_correctors_bring_the_law_nearer(name):
    plain, _ = drawn(name, n=12_000, steps=4)
    x, info = drawn(name, n=12_000, steps=4, churn=3.0, correctors=2)
    assert toy.variation(x, toy.LAW) < 0.9 * toy.variation(plain, toy.LAW)
    assert info.nfe == 4 + 6


@pytest.mark.complete
@pytest.mark.parametrize("name", ["mask", "uniform", "metric"])
def test_churn_and_correctors_bring_the_law_of_more_steps_nearer(name):
    plain, _ = drawn(name, n=40_000, steps=8)
    x, info = drawn(name, n=40_000, steps=8, churn=3.0, correctors=2)
    assert toy.variation(x, toy.LAW) < 0.9 * toy.variation(plain, toy.LAW)
    assert info.nfe == 8 + 14


def test_correctors_draw_their_share_anew_without_churn():
    source, seen = functools.partial(sources.mask, vocabulary=4), []

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x, ordered=True)
        return jnp.full((*x.shape, 4), -jnp.log(4.0))

    x0 = np.full((20_000, 2), 4)
    jax.jit(lambda x0: ctmc(net, KEY, x0, source=source, steps=2, correctors=1))(x0)
    jax.effects_barrier()
    _, before, after = seen
    # at t = 1/2 both are masks with probability 1/4, and one same token with 1/16
    wanted = (1 - np.exp(-0.5)) * (1 - 1 / 4 - 1 / 16)
    np.testing.assert_allclose((before != after).mean(), wanted, atol=0.01)


@pytest.mark.parametrize("name", CASES)
def test_adaptive_steps_keep_the_law_and_count_themselves(name):
    # the noise of so few rows is 0.02
    x, info = drawn(name, adaptive_ctmc, n=5000, jumps=0.25)
    assert toy.variation(x, toy.LAW) < 0.045
    assert 10 < int(info.nfe) < 80
    short, few = drawn(name, adaptive_ctmc, n=1000, jumps=0.05, most=3)
    assert few.nfe == 3
    assert int(short.max()) < toy.V


@pytest.mark.complete
@pytest.mark.parametrize("name", CASES)
def test_adaptive_steps_of_many_rows_keep_the_law(name):
    x, _ = drawn(name, adaptive_ctmc, n=20_000, jumps=0.25)
    assert toy.variation(x, toy.LAW) < 0.035


@pytest.mark.parametrize("name", ["mask", "uniform"])
def test_what_is_given_stays_and_the_rest_is_conditional(name):
    _bridge, _source, _, path = CASES[name]
    given, known = jnp.array([2, 0]), jnp.array([True, False])
    conditional = toy.LAW[2] / toy.LAW[2].sum()

    def net(t, x, cond=None, *, key=None):
        # the exact posterior where the first token is known to be 2
        k = path.alpha(t)
        noise = jnp.pad(jnp.zeros(toy.V), (0, 1)).at[toy.V].set(1.0)
        noise = noise if name == "mask" else jnp.pad(jnp.full(toy.V, 1 / toy.V), (0, 1))
        likely = k * jnp.eye(toy.V, toy.V + 1) + (1 - k) * jnp.tile(noise[None], (toy.V, 1))
        p = jnp.asarray(conditional)[None] * likely.T[x[:, 1]]
        second = jnp.log(p / p.sum(axis=1, keepdims=True) + 1e-30)
        return jnp.stack([jnp.zeros_like(second), second], axis=1)

    x, _ = drawn(name, net=net, n=20_000, steps=12, given=given, known=known)
    assert (np.asarray(x[:, 0]) == 2).all()
    found = np.bincount(np.asarray(x[:, 1]), minlength=toy.V) / len(x)
    assert np.abs(found - conditional).sum() / 2 < 0.015
    # of masks no such net is needed: the joint one knows
    if name == "mask":
        x, _ = drawn(name, n=20_000, steps=12, given=given, known=known)
        found = np.bincount(np.asarray(x[:, 1]), minlength=toy.V) / len(x)
        assert np.abs(found - conditional).sum() / 2 < 0.015


def test_guidance_of_one_token_of_ten_states_is_the_power_of_the_rates():
    # masks: jumps at the rate λ m_c^w m_0^(1 − w), so their law is that, normalised
    rng = np.random.default_rng(0)
    laws = rng.dirichlet(np.ones(10), size=2).astype(np.float32)

    def net(t, x, cond, *, key=None):
        return jnp.log(jnp.asarray(laws)[cond])[:, None]

    guided = guidance.classifier_free(net, scale=2.0, null=np.int32(1))
    source = functools.partial(sources.mask, vocabulary=10)

    @jax.jit
    def run():
        x0, cond = jnp.full((60_000, 1), 10), jnp.zeros(60_000, jnp.int32)
        x, _ = ctmc(guided, KEY, x0, cond, source=source, steps=8)
        m = jnp.exp(guided(0.0, x0[:1], cond[:1]))
        return x, tokens.mixture().advance(0.0, 0.3, x0[:1], m)

    x, after = run()
    wanted = laws[0] ** 2 / laws[1]
    found = np.bincount(np.asarray(x[:, 0]), minlength=10) / len(x)
    # of so many rows the noise is 0.4 (10/60,000)^½, 0.005
    assert np.abs(found - wanted / wanted.sum()).sum() / 2 < 0.01
    # and the whole of it hastens the jump, as the rates do
    np.testing.assert_allclose(after[0, 0, 10], 0.7 ** wanted.sum(), rtol=1e-5)


def test_conditions_choose_the_law():
    _bridge, _source, law, path = CASES["mask"]
    net = toy.net(law, path, toy.CONDITIONAL)
    cond = np.arange(20_000) % 2
    x, _ = drawn("mask", n=len(cond), net=net, cond=cond, steps=24)
    x = np.asarray(x)
    for c in range(2):
        assert toy.variation(x[cond == c], toy.CONDITIONAL[c]) < 0.035


def test_the_surest_come_first_and_all_are_replaced():
    x0 = jnp.full((500, 2), toy.V)

    @jax.jit
    def runs(x0):
        run = functools.partial(confidence, NETS["mask"], KEY, x0, vocabulary=toy.V)
        known = {"given": jnp.array([3, 0]), "known": jnp.array([1, 0])}
        return run(steps=2), run(steps=2, noise=0.0, temperature=1e-3), run(steps=2, **known)

    (x, info), (greedy, _), (kept, _) = runs(x0)
    assert info.nfe == 2
    assert int(x.max()) < toy.V
    # greedy, sharp: the likeliest first token of either position, then the other given it
    marginals = [toy.LAW.sum(axis=1), toy.LAW.sum(axis=0)]
    first = int(np.argmax([m.max() for m in marginals]))
    best = int(marginals[first].argmax())
    other = int((toy.LAW[best] if first == 0 else toy.LAW[:, best]).argmax())
    wanted = [best, other] if first == 0 else [other, best]
    np.testing.assert_array_equal(greedy, np.tile(wanted, (500, 1)))
    assert (np.asarray(kept[:, 0]) == 3).all()


def test_of_several_positions_the_surest_are_replaced_first():
    # each uniform over so many tokens, so sure to −log of it whichever is drawn
    choices, seen = np.array([[4], [1], [3], [2]]), []

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda x: seen.append(np.flatnonzero(x[0] < 4)), x, ordered=True)
        log_m = jnp.where(jnp.arange(4)[None] < choices, 0.0, -1e9)
        return jnp.broadcast_to(log_m, (*x.shape, 4))

    run = functools.partial(confidence, net, KEY, vocabulary=4, steps=4, noise=0.0)
    jax.jit(run)(np.full((2, 4), 4))
    jax.effects_barrier()
    assert [places.tolist() for places in seen] == [[], [1], [1, 3], [1, 2, 3]]


def test_one_after_another_is_exact():
    first = np.log(toy.LAW.sum(axis=1))
    second = np.log(toy.LAW / toy.LAW.sum(axis=1, keepdims=True))

    def net(t, x, cond=None, *, key=None):
        then = jnp.asarray(second)[x[:, 1] % toy.V]
        return jnp.stack([jnp.tile(first[None], (len(x), 1)), then], axis=1)

    @jax.jit
    def runs():
        x0 = jnp.zeros((N, 2), jnp.int32)
        known = {"given": jnp.array([1, 0]), "known": jnp.array([True, False])}
        return (
            autoregressive(net, KEY, x0, vocabulary=toy.V),
            autoregressive(net, KEY, x0[:50], vocabulary=toy.V, **known),
        )

    (x, info), (kept, _) = runs()
    assert toy.variation(x, toy.LAW) < 0.01
    assert info.nfe == 2
    assert (np.asarray(kept[:, 0]) == 1).all()


def test_temperature_and_nucleus():
    log_p = np.log(np.array([[[0.5, 0.3, 0.15, 0.05]]], np.float32))
    net = lambda t, x, cond=None: jnp.asarray(log_p) + 0.3  # noqa: E731

    def masses(**options):
        of = jax.jit(lambda x: _tokens.masses(net, None, **options)(0.5, x))
        return np.exp(of(np.zeros((1, 1), np.int32)))[0, 0]

    m = masses(top_p=0.7)
    np.testing.assert_allclose(m, np.exp(0.3) * np.array([0.625, 0.375, 0, 0]), atol=1e-5)
    m = masses(temperature=0.5)
    squares = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    np.testing.assert_allclose(m, np.exp(0.3) * squares / squares.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"given": jnp.zeros(2, jnp.int32)}, "belong together"),
        ({"given": jnp.zeros(3, jnp.int32), "known": jnp.ones(3)}, r"given has shape \(3,\)"),
        ({"churn": -1.0}, "churn=-1.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        drawn("mask", n=4, **options)


def test_other_samplers_check_theirs():
    net = toy.net(toy.mask_law, paths.linear())
    x0 = jnp.full((4, 2), toy.V)
    with pytest.raises(ValueError, match="jumps=0"):
        adaptive_ctmc(net, KEY, x0, jumps=0)
    with pytest.raises(ValueError, match="noise=-1"):
        confidence(net, KEY, x0, vocabulary=toy.V, noise=-1.0)
    with pytest.raises(ValueError, match="log-masses"):
        ctmc(lambda t, x, c: x.astype(jnp.float32), KEY, x0, source=sources.normal)
