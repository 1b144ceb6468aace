import functools
import math

import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import linalg

from fmjax import likelihood, sources
from fmjax.samplers.ode import ode

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)
# x(1) = exp(W) x(0) of dx/dt = W x, so that log p1(x1) = log p0(exp(-W) x1) - tr W
W = jnp.asarray(0.6 * np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
HEUN = functools.partial(ode, solver=diffrax.Heun(), steps=8)


def linear(t, x, cond=None, *, key=None):
    return (x.reshape(-1, 4) @ W.T).reshape(x.shape)


def rows(n, key=KEY):
    return jax.random.normal(key, (n, *SHAPE))


def standard_normal(x):
    return -(x.reshape(len(x), -1) ** 2).sum(1) / 2 - 2 * np.log(2 * np.pi)


def test_a_mixture_at_the_exact_field():
    mix = closed_forms.mixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[0.4, 0.5], [0.5, 0.3]])
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, mix)
    solve = functools.partial(ode, rtol=1e-6, atol=1e-6)
    x1 = jax.jit(lambda key: closed_forms.sample(key, 64, mix))(KEY)
    found, _ = jax.jit(lambda x1: likelihood.log_likelihood(net, KEY, x1, solve=solve))(x1)
    error = np.abs(found - jax.jit(lambda x: closed_forms.log_density(mix, x))(x1))
    assert error.max() < 1e-3
    assert error.mean() < 2e-4


def test_both_directions_and_any_shape_by_the_matrix_exponential():
    solve = functools.partial(ode, rtol=1e-6, atol=1e-6)
    x0 = rows(5)

    @jax.jit
    def there_and_back(x0):
        x1, forward, info = likelihood.sample_and_log_density(linear, KEY, x0, solve=solve)
        return x1, forward, info, likelihood.log_likelihood(linear, KEY, x1, solve=solve)

    x1, forward, info, (backward, inverse) = there_and_back(x0)
    expected = (x0.reshape(-1, 4) @ linalg.expm(np.asarray(W)).T).reshape(x0.shape)
    np.testing.assert_allclose(x1, expected, atol=1e-4)
    np.testing.assert_allclose(forward, standard_normal(x0) - np.trace(W), atol=1e-4)
    np.testing.assert_allclose(backward, forward, atol=1e-4)
    np.testing.assert_allclose(inverse.x0, x0, atol=1e-4)
    assert info.nfe > 6


def test_calls_are_counted_and_times_and_sources_obeyed():
    calls = []

    def counted(t, x, cond=None):
        jax.debug.callback(lambda t: calls.append(float(t)), t)
        return linear(t, x)

    law = functools.partial(sources.normal_log_density, std=2.0)
    options = {"solve": HEUN, "t0": 0.25, "t1": 0.75, "log_p0": law}
    ask = jax.jit(lambda x: likelihood.log_likelihood(counted, KEY, x, **options))
    x1 = rows(3)
    found, inverse = ask(x1)
    jax.effects_barrier()
    assert len(calls) == inverse.nfe == 16
    assert (max(calls), min(calls)) == (0.75, 0.25)
    expected = standard_normal(inverse.x0 / 2) - 4 * np.log(2) - np.trace(W) / 2
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (
        "callback"
        not in jax.jit(lambda x: likelihood.log_likelihood(linear, KEY, x)[0]).lower(x1).as_text()
    )


@jax.jit
def wave(x):
    """Each number moves its neighbours: a full Jacobian that differs between examples."""
    flat = x.reshape(len(x), -1)
    return jnp.sin(flat @ W.T * 2 + flat**2).reshape(x.shape)


@jax.jit
def trace(x):
    jacobian = jax.vmap(jax.jacfwd(lambda y: wave(y[None])[0].ravel()))(x)
    return jnp.trace(jacobian.reshape(len(x), 4, 4), axis1=1, axis2=2)


@functools.partial(jax.jit, static_argnums=(0, 1))
def estimate(divergence, f, x):
    return divergence.apply(f, x, divergence.draw(jax.random.key(5), x))


@pytest.mark.parametrize("at_once", [None, 3])
def test_the_exact_divergence_is_the_trace_of_the_jacobian(at_once):
    x = rows(5)
    v, found = estimate(likelihood.exact(at_once=at_once), wave, x)
    np.testing.assert_allclose(v, wave(x), atol=1e-6)
    np.testing.assert_allclose(found, trace(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "divergence",
    [
        likelihood.hutchinson(),
        likelihood.hutchinson(probes=3, law=jax.random.normal),
        likelihood.hutchpp(),
        likelihood.hutchpp(probes=2, law=jax.random.normal),
    ],
)
def test_random_divergences_are_unbiased_with_probes_of_their_own(divergence):
    x = jnp.repeat(rows(2), 4000, axis=0)
    with jax.debug_key_reuse(True):
        v, found = estimate(divergence, wave, x)
    np.testing.assert_allclose(v, wave(x), atol=1e-6)
    found = np.asarray(found).reshape(2, 4000)
    error = found.std(axis=1) / np.sqrt(4000)
    assert np.all(error > 1e-4)
    assert np.all(np.abs(found.mean(axis=1) - trace(x[::4000])) < 4 * error)


def test_signs_are_exact_for_a_diagonal_and_more_probes_have_less_spread():
    x = jnp.repeat(rows(1), 2000, axis=0)
    _, found = estimate(likelihood.hutchinson(), jnp.sin, x)
    np.testing.assert_allclose(found, jnp.cos(x).reshape(2000, -1).sum(1), rtol=1e-5)
    one, nine = (estimate(likelihood.hutchinson(probes=k), wave, x)[1].std() for k in (1, 9))
    assert one / nine == pytest.approx(3, rel=0.1)


def test_hutchpp_is_exact_up_to_its_rank_and_not_beyond():
    a, b = jax.random.normal(KEY, (2, 4, 2))
    low_rank = lambda x: (x.reshape(-1, 4) @ (a @ b.T).T).reshape(x.shape)  # noqa: E731
    x = rows(50)
    two, one = (estimate(likelihood.hutchpp(probes=k), low_rank, x)[1] for k in (2, 1))
    np.testing.assert_allclose(two, jnp.trace(a @ b.T), rtol=1e-4)
    assert np.std(one) > 0.01
    # more columns than the examples have numbers
    many = estimate(likelihood.hutchpp(probes=7), wave, x)[1]
    np.testing.assert_allclose(many, trace(x), atol=1e-4)


def test_a_log_density_by_hutchinson_is_unbiased_within_its_measured_spread():
    x1 = jnp.repeat(rows(1), 4000, axis=0)
    random = likelihood.hutchinson(law=jax.random.normal)
    found, inverse = jax.jit(
        lambda x1: likelihood.log_likelihood(linear, KEY, x1, divergence=random, solve=HEUN)
    )(x1)
    exact = standard_normal(inverse.x0[:1]) - np.trace(W)
    assert abs(np.mean(found) - exact[0]) < 4 * np.std(found) / np.sqrt(4000)
    # eᵀWe for one e in the whole solve has the variance of W's symmetric part, 2|(W + Wᵀ)/2|²
    symmetric = np.linalg.norm(W + W.T) / 2
    assert np.std(found) == pytest.approx(np.sqrt(2) * symmetric, rel=0.1)


def weights():
    keys = jax.random.split(jax.random.key(3), 4)
    shapes = {"x": (3, 64), "t": (1, 64), "cond": (4, 64), "out": (64, 3)}
    scales = {"x": 1.0, "t": 1.0, "cond": 0.5, "out": 0.05}
    return {
        name: scales[name] * jax.random.normal(k, shapes[name])
        for name, k in zip(shapes, keys, strict=True)
    }


def perceptron(p):
    """A net that closes over its parameters, with a class as its condition."""
    return lambda t, x, cond: jnp.tanh(x @ p["x"] + p["t"] * t + p["cond"][cond]) @ p["out"]


ADJOINTS = {
    "checkpoints": diffrax.RecursiveCheckpointAdjoint(checkpoints=4),
    "backwards": diffrax.BacksolveAdjoint(),
}


def test_gradients_equal_finite_differences_without_keeping_activations():
    cond, x1 = jnp.arange(128) % 4, jax.random.normal(KEY, (128, 3))
    memory = {}

    def loss(p, x, adjoint):
        solve = functools.partial(ode, solver=diffrax.Midpoint(), steps=32, adjoint=adjoint)
        net = perceptron(p)
        return -likelihood.log_likelihood(net, KEY, x, cond, solve=solve)[0].mean()

    with jax.enable_x64(True):
        p, x = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (weights(), x1))
        toward = jax.tree.map(lambda a: np.sin(np.arange(a.size)).reshape(a.shape), (p, x))
        value = jax.jit(lambda p, x: loss(p, x, ADJOINTS["checkpoints"]))
        still = jax.tree.map(np.zeros_like, toward)
        directions = [(toward[0], still[1]), (still[0], toward[1])]  # parameters; x
        moved = lambda h, d: jax.tree.map(lambda a, b: np.asarray(a) + h * b, (p, x), d)  # noqa: E731
        differences = [
            (value(*moved(1e-4, only)) - value(*moved(-1e-4, only))) / 2e-4 for only in directions
        ]
        for name, adjoint in ADJOINTS.items():
            grad = jax.jit(jax.grad(functools.partial(loss, adjoint=adjoint), (0, 1)))
            program = grad.lower(p, x).compile()
            memory[name] = program.memory_analysis().temp_size_in_bytes
            found = program(p, x)
            for only, difference in zip(directions, differences, strict=True):
                products = jax.tree.map(np.vdot, found, only)
                np.testing.assert_allclose(
                    sum(jax.tree.leaves(products)), difference, rtol=1e-3, err_msg=name
                )
    one_activation_of_every_call = 2 * 32 * 128 * 64 * 8
    assert max(memory.values()) < one_activation_of_every_call / 2


def test_rows_on_eight_devices_are_those_on_one():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    random = likelihood.hutchinson()
    ask = jax.jit(
        lambda x: likelihood.log_likelihood(linear, KEY, x, divergence=random, solve=HEUN)
    )
    x1 = rows(16)
    spread = ask(jax.device_put(x1, NamedSharding(mesh, PartitionSpec("data"))))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), spread, ask(x1))


def test_along_integrates_any_rate_beside_the_path():
    field = lambda t, x, args: (-x, args * t)  # noqa: E731
    args = jnp.asarray([1.0, 2.0])
    x1, integral, _ = jax.jit(lambda x: likelihood.along(field, x, args))(jnp.ones((2, 3)))
    np.testing.assert_allclose(x1, math.exp(-1), rtol=1e-4)
    np.testing.assert_allclose(integral, args / 2, rtol=1e-4)


def test_uniform_levels_take_log2_of_their_number_in_bits():
    levels = jnp.asarray([[0.0, 3.0], [8.0, 16.0]])
    # the density of independent uniforms on [-1/2, 16 + 1/2]
    density = lambda key, x: (jnp.full(len(x), -2 * jnp.log(17.0)), None)  # noqa: E731
    for draws in (1, 5):
        ask = functools.partial(likelihood.dequantised, density, draws=draws)
        found, _ = jax.jit(ask)(KEY, levels)
        bits = likelihood.bits_per_dim(found, (2,))
        np.testing.assert_allclose(bits, math.log2(17), rtol=1e-6)
    # the same in other units: levels 0, 10, 20, …
    coarse = lambda key, x: (jnp.full(len(x), -2 * jnp.log(170.0)), None)  # noqa: E731
    ask = functools.partial(likelihood.dequantised, coarse, spacing=10)
    found, _ = jax.jit(ask)(KEY, 10 * levels)
    np.testing.assert_allclose(likelihood.bits_per_dim(found, (2,)), math.log2(17), rtol=1e-6)


def test_dequantisation_is_a_bound_that_more_draws_tighten():
    x = jnp.zeros((4000, 1))
    density = lambda key, x: (standard_normal(x) + 1.5 * math.log(2 * math.pi), x)  # noqa: E731
    truth = math.log(math.erf(2 / math.sqrt(2)))  # P(-2 < x < 2)
    means = []
    for draws in (1, 2, 16):
        found, drawn = jax.jit(
            functools.partial(likelihood.dequantised, density, spacing=4, draws=draws)
        )(KEY, x)
        assert drawn.shape == (draws, 4000, 1)
        assert np.abs(drawn).max() < 2
        means.append(float(found.mean()))
    assert means[0] < means[1] - 0.05 < means[2] < truth
    # by Jensen: E log p = -E u²/2 - log(2π)/2 with u uniform on [-2, 2], and the cell's volume
    assert means[0] == pytest.approx(-2 / 3 - math.log(2 * math.pi) / 2 + math.log(4), abs=0.05)


def test_noise_within_a_cell_and_probes_have_keys_of_their_own():
    density = lambda key, x: (jax.random.normal(key, (len(x),)), None)  # noqa: E731
    with jax.debug_key_reuse(True):
        likelihood.dequantised(density, jax.random.key(1), jnp.zeros((3, 2)), draws=2)


def test_nets_of_two_times_are_refused():
    def average(params, t, x, cond=None, *, r=None, key=None):
        return params * x

    net = functools.partial(average, 2.0)
    with pytest.raises(ValueError, match=r"far end of time `r`.*net\(t, x, cond, r=t\)"):
        likelihood.log_likelihood(net, KEY, rows(2))
    with pytest.raises(ValueError, match="far end of time"):
        likelihood.sample_and_log_density(net, KEY, rows(2))


@pytest.mark.parametrize("divergence", [likelihood.exact(), likelihood.hutchinson()])
def test_a_velocity_of_another_shape_is_refused(divergence):
    net = lambda t, x, cond: x.reshape(len(x), -1)  # noqa: E731
    with pytest.raises(ValueError, match=r"returned shape \(2, 4\), expected that of x"):
        likelihood.log_likelihood(net, KEY, rows(2), divergence=divergence)


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="probes=0"):
        likelihood.hutchinson(probes=0)
    with pytest.raises(ValueError, match="probes=-1"):
        likelihood.hutchpp(probes=-1)
    with pytest.raises(ValueError, match="draws=0"):
        likelihood.dequantised(lambda key, x: (x, None), KEY, rows(1), draws=0)
    with pytest.raises(ValueError, match="spacing=0"):
        likelihood.dequantised(lambda key, x: (x, None), KEY, rows(1), spacing=0)


def test_sources_state_their_density():
    x = rows(3)
    np.testing.assert_allclose(sources.log_density(sources.normal)(x), standard_normal(x), 1e-6)
    wide = sources.log_density(functools.partial(sources.normal, std=3.0))
    np.testing.assert_allclose(wide(x), standard_normal(x / 3) - 4 * np.log(3), rtol=1e-6)
    other = functools.partial(sources.distribution, sample=rows)
    with pytest.raises(ValueError, match=r"source distribution has no density.*log_p0"):
        sources.log_density(other)

    def shifted(key, like, *, by):
        return like + by

    shifted.log_density = lambda x0, *, by: x0.sum(axis=1) + by
    assert sources.log_density(functools.partial(shifted, by=2))(jnp.ones((1, 3))) == 5
