import functools

import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fmjax.samplers import ode

QUICK = (diffrax.Heun, diffrax.Dopri5)
ALIKE = (diffrax.Midpoint, diffrax.Ralston, diffrax.Tsit5)  # to Heun and Dopri5 in order and cost
FIXED = [
    diffrax.Euler(),
    diffrax.Heun(),
    diffrax.Midpoint(),
    diffrax.Ralston(),
    diffrax.Bosh3(),
    diffrax.Tsit5(),
    diffrax.Dopri5(),
    diffrax.Dopri8(),
]
# with and without FSAL; fixed steps count the evaluations of all
ADAPTIVE = [
    pytest.param(s, marks=[] if isinstance(s, QUICK) else pytest.mark.complete) for s in FIXED[1:]
]
ORDERS = [1, 2, 2, 2, 3, 5, 5, 8]


def name(value):
    return type(value).__name__ if isinstance(value, diffrax.AbstractSolver) else None


def alpha(t):
    return t


def sigma(t):
    return 1 - t


def wave(t, x, cond=None, *, key=None):
    """Needs more steps the larger x is."""
    return jnp.cos(4 * x * t) + x


@functools.cache
def compiled(**options):
    """Of `wave`; compiled once for all tests with these options."""
    return jax.jit(lambda x: ode.ode(wave, None, x, **options))


def counted(net, calls):
    def counting(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda t: calls.append(float(t)), t)
        return net(t, x, cond)

    return counting


def solve_and_count(net, x0, **options):
    calls = []
    x1, info = jax.jit(lambda x: ode.ode(counted(net, calls), None, x, **options))(x0)
    jax.block_until_ready(x1)
    jax.effects_barrier()
    return x1, info.nfe, len(calls)


@pytest.mark.parametrize("solver", ADAPTIVE, ids=name)
def test_nfe_is_the_number_of_calls_with_adapted_steps_and_rejections(solver):
    x0 = jnp.array([[0.3], [3.0]])
    options = {"rtol": 1e-3, "atol": 1e-3, "t0": 1.0, "t1": 0.0, "ts": [0.9, 0.1]}
    _, nfe, calls = solve_and_count(wave, x0, solver=solver, **options)
    assert nfe == calls > 10


@pytest.mark.parametrize("solver", ADAPTIVE, ids=name)
def test_nfe_per_sample_is_what_each_example_costs(solver):
    calls = []
    options = {"solver": solver, "rtol": 1e-3, "atol": 1e-3, "per_sample": True}
    solve = jax.jit(lambda x: ode.ode(counted(wave, calls), None, x, **options)[1].nfe)

    def nfe(*x):
        calls.clear()
        each = np.asarray(solve(jnp.array([x]).T))
        jax.effects_barrier()
        assert len(calls) == 2 * np.max(each)  # all run as long as the slowest
        return each

    together = nfe(0.3, 3.0)
    assert together[0] < together[1]
    # rounding depends on the row, and may cost or save a step
    _, per_step = ode.explicit(solver)
    np.testing.assert_allclose(together, [nfe(0.3, 0.3)[0], nfe(3.0, 3.0)[1]], atol=per_step)


def test_nfe_per_sample_with_fixed_steps():
    options = {"solver": diffrax.Heun(), "steps": 4, "per_sample": True}
    info = compiled(**options)(jnp.ones((3, 1)))[1]
    np.testing.assert_array_equal(info.nfe, [8, 8, 8])


def test_other_solvers_bring_their_count():
    solver = diffrax.ReversibleHeun()
    with pytest.raises(TypeError, match="ReversibleHeun are not known"):
        ode.ode(wave, None, jnp.ones((2, 1)), solver=solver, steps=4)
    options = {"solver": solver, "steps": 4, "evaluations": lambda solver: (1, 1)}
    _, nfe, calls = solve_and_count(wave, jnp.ones((2, 1)), **options)
    assert nfe == calls == 5


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        pytest.param(s, n, marks=[pytest.mark.complete] * isinstance(s, ALIKE))
        for s, n in zip(FIXED, ORDERS, strict=True)
    ],
    ids=name,
)
def test_fixed_steps_converge_with_their_order_and_cost_their_nfe(solver, order):
    with jax.enable_x64(True):
        data = closed_forms.mixture([0.4, 0.6], [[-1.0], [1.0]], [[1.0], [1.2]])
        x0 = jnp.linspace(-2, 2, 9)[:, None]
        exact = closed_forms.flow_map_1d(alpha, sigma, 0.0, 1.0, x0, data)
        net = closed_forms.field(alpha, sigma, data)
        errors = []
        for steps in (32, 64) if order < 8 else (8, 16):  # above rounding
            x1, nfe, calls = solve_and_count(net, x0, solver=solver, steps=steps)
            assert nfe == calls
            errors.append(np.sqrt(np.mean((x1 - exact) ** 2)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_gaussian_to_gaussian_is_the_closed_form_and_back():
    data = closed_forms.gaussian([1.0, -2.0], [0.3, 2.0])
    net = closed_forms.field(alpha, sigma, data)
    x0 = jax.random.normal(jax.random.key(0), (16, 2))
    solve = functools.partial(ode.ode, net, None, rtol=1e-6, atol=1e-6)
    x1, info = jax.jit(lambda x: solve(x, ts=[0.0, 0.25, 1.0]))(x0)

    def exact(t):
        spread = np.sqrt(t**2 * np.array([[0.09, 4.0]]) + (1 - t) ** 2)
        return np.asarray(t * np.array([[1.0, -2.0]]) + spread * np.asarray(x0), np.float32)

    flow = closed_forms.flow_map(alpha, sigma, 0.25, 1.0, exact(0.25), data)
    np.testing.assert_allclose(flow, exact(1.0), atol=1e-5)
    np.testing.assert_allclose(x1, exact(1.0), atol=2e-5)
    np.testing.assert_allclose(info.ts, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(info.xs[0], x0, atol=1e-6)
    np.testing.assert_allclose(info.xs[1], exact(0.25), atol=2e-5)
    np.testing.assert_allclose(info.xs[2], x1, atol=2e-5)
    back, info = jax.jit(lambda x: solve(x, t0=1.0, t1=0.0, ts=[0.25]))(x1)
    np.testing.assert_allclose(back, x0, atol=1e-4)
    np.testing.assert_allclose(info.xs[0], exact(0.25), atol=1e-4)


def test_per_sample_agrees_with_shared_and_ignores_neighbours():
    def net(t, x, cond):
        return wave(t, x) * cond["rate"][:, None] + cond["shift"]

    cond = {"rate": jnp.array([0.5, 1.0]), "shift": jnp.ones((2, 1))}
    shared = jax.jit(lambda x: ode.ode(net, None, x, cond))
    own = jax.jit(lambda x: ode.ode(net, None, x, cond, per_sample=True, ts=[0.5, 1.0]))
    x0, other = jnp.array([[0.3], [3.0]]), jnp.array([[0.3], [-1.0]])
    x1, info = own(x0)
    np.testing.assert_allclose(x1, shared(x0)[0], rtol=1e-3)
    assert info.xs.shape == (2, 2, 1)
    np.testing.assert_allclose(info.xs[1], x1, rtol=1e-5)
    np.testing.assert_array_equal(x1[0], own(other)[0][0])
    assert not np.array_equal(shared(x0)[0][0], shared(other)[0][0])


@pytest.mark.parametrize(
    ("t0", "t1"), [pytest.param(0.0, 1.0, marks=pytest.mark.complete), (1, 0), (0.2, 0.8)]
)
def test_grid_places_the_steps(t0, t1):
    calls = []
    options = {"solver": diffrax.Euler(), "steps": 4, "t0": t0, "t1": t1, "grid": jnp.square}
    solve = jax.jit(lambda x: ode.ode(counted(wave, calls), None, x, **options))
    solve(jnp.ones((1, 1)))
    jax.effects_barrier()
    times = min(t0, t1) + abs(t1 - t0) * np.array([0, 1, 4, 9, 16]) / 16
    np.testing.assert_allclose(calls, (times if t0 < t1 else times[::-1])[:4], atol=1e-6)


def test_a_solve_is_differentiable_in_what_the_net_closes_over():
    # x(1) = x0 exp(w), so its derivative in w is x(1)
    x0 = jnp.ones((1, 1))

    def loss(w):
        return jnp.sum(ode.ode(lambda t, x, cond: w * x, None, x0)[0])

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.5), np.exp(0.5), rtol=1e-4)


@pytest.mark.parametrize("options", [{"steps": 4}, {}, {"per_sample": True}])
def test_a_compiled_solve_has_no_host_callback(options):
    assert "callback" not in compiled(**options).lower(jnp.ones((2, 1))).as_text()


def test_a_compiled_solve_runs_sharded():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x0 = jnp.linspace(-1, 1, 16)[:, None]
    solve = compiled()
    sharded, info = solve(jax.device_put(x0, NamedSharding(mesh, PartitionSpec("data"))))
    single, info_single = solve(x0)
    np.testing.assert_allclose(sharded, single, rtol=1e-5)
    assert info.nfe == info_single.nfe


def test_too_few_steps_raise_or_give_nan_where_compiled():
    x0 = jnp.array([[0.3], [3.0]])
    with pytest.raises(RuntimeError, match="max_steps=10"):
        ode.ode(wave, None, x0, max_steps=10)
    x1, info = compiled(max_steps=10, ts=(0.5,))(x0)
    assert np.all(np.isnan(x1))
    assert np.all(np.isnan(info.xs))
    _, info = compiled(per_sample=True)(x0)
    enough_for_the_first = int((info.nfe[0] - 1) // 6)
    x1, _ = compiled(per_sample=True, max_steps=enough_for_the_first)(x0)
    np.testing.assert_array_equal(np.isnan(x1), [[False], [True]])


def test_throw_raises_from_a_compiled_solve():
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        jax.block_until_ready(compiled(max_steps=10, throw=True)(jnp.ones((2, 1))))


def test_low_precision_samples_and_nets_are_solved_in_float32():
    def net(t, x, cond):
        assert x.dtype == jnp.float32
        return jnp.astype(x, jnp.bfloat16)

    solve = jax.jit(lambda x: ode.ode(net, None, x, ts=[0.5], steps=3))
    x1, info = solve(jnp.ones((2, 3), jnp.bfloat16))
    assert x1.dtype == info.xs.dtype == jnp.bfloat16
    assert info.ts.dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": "heun"}, TypeError, "solver 'heun': expected a diffrax solver"),
        ({"solver": diffrax.Heun}, TypeError, "expected a diffrax solver"),
        ({"steps": 0}, ValueError, "steps=0: expected at least 1"),
        ({"solver": diffrax.Euler()}, ValueError, "Euler cannot adapt its steps"),
        ({"t0": 0.5, "t1": 0.5}, ValueError, "two different times"),
        ({"t1": 1000.0}, ValueError, "times from 0 to 1"),
        ({"rtol": 0.0, "atol": 0.0}, ValueError, "rtol=0.0, atol=0.0"),
        ({"max_steps": 0}, ValueError, "max_steps=0"),
        ({"ts": [0.5, 1.5]}, ValueError, "save points"),
        ({"ts": [0.5, 0.2]}, ValueError, "in that order"),
        ({"ts": [0.2, 0.5], "t0": 1.0, "t1": 0.0}, ValueError, "in that order"),
        ({"steps": 4, "grid": lambda u: u / 2}, ValueError, "expected 5 values from 0 to 1"),
        ({"steps": 4, "grid": lambda u: 0.5}, ValueError, "expected 5 values"),
        ({"steps": 4, "grid": lambda u: u * (4 * u**2 - 5 * u + 2)}, ValueError, "increasing"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        ode.ode(wave, None, jnp.ones((2, 1)), **options)


def test_a_velocity_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="returned shape"):
        ode.ode(lambda t, x, cond: x[:, :1], None, jnp.ones((2, 3)))
