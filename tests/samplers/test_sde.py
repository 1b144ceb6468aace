import functools
from pathlib import Path

import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fmjax import assemble, bridges, guidance, nets, paths, settings
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers import _common, ode, sde

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LINEAR = paths.linear()
GAUSSIAN = closed_forms.gaussian([1.0], 0.5)
MIXTURE = closed_forms.mixture([0.3, 0.7], [[-2.0], [1.0]], [[0.3], [0.6]])
KEY = jax.random.key(7)
DIFFUSIONS = [sde.proportional, sde.quadratic, sde.decreasing, sde.bump, sde.reverse]
SOLVERS = [diffrax.Euler(), diffrax.Heun(), diffrax.ShARK()]


def exact(data, path=LINEAR, source=None):
    return closed_forms.field(path.alpha, path.sigma, data, source)


def normal(n, d=1, std=1.0):
    return std * jax.random.normal(jax.random.key(3), (n, d))


def zero(path, t):
    return jnp.zeros_like(t)


def name(value):
    return getattr(value, "__name__", type(value).__name__)


def moments(data):
    """Mean and variance of a mixture in 1-D."""
    mean = data.weights @ data.means[:, 0]
    return mean, data.weights @ (data.covs[:, 0, 0] + data.means[:, 0] ** 2) - mean**2


def affine(drift, t):
    """Slope and intercept of a drift that is affine in x, in 1-D."""
    at_0, at_1 = drift(t, jnp.array([[0.0], [1.0]]))[:, 0]
    return at_1 - at_0, at_0


def propagated(drift, g2, steps, mean=0.0, var=1.0):
    """Mean and variance after Euler-Maruyama steps, exactly, where the drift is affine."""
    h = 1 / steps

    def step(i, state):
        t = jnp.float32(i) / steps
        slope, intercept = affine(drift, t)
        mean, var = state
        factor = 1 + h * slope
        return factor * mean + h * intercept, factor**2 * var + h * g2(t)

    start = (jnp.float32(mean), jnp.float32(var))
    return jnp.stack(jax.lax.fori_loop(0, steps, step, start))


@pytest.mark.parametrize("diffusion", [zero, *DIFFUSIONS], ids=name)
def test_euler_maruyama_has_weak_order_one_for_every_diffusion(diffusion):
    drift = sde.drift_of(exact(GAUSSIAN), LINEAR, diffusion)
    run = jax.jit(lambda n: propagated(drift, lambda t: diffusion(LINEAR, t), n))
    truth = np.array([1.0, 0.25])
    errors = [np.abs(run(n) - truth).max() for n in (256, 512)]
    assert errors[1] < 0.01
    if errors[1] > 1e-4:  # `reverse` has almost none, for a Gaussian
        assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.25)
    else:
        assert diffusion is sde.reverse


def test_coarse_samples_have_the_moments_of_their_scheme():
    x0, steps, diffusion = normal(40_000), 4, functools.partial(sde.proportional, scale=2.0)
    x, info = jax.jit(lambda x: sde.sde(exact(GAUSSIAN), KEY, x, steps=steps, diffusion=diffusion))(
        x0
    )
    drift = sde.drift_of(exact(GAUSSIAN), LINEAR, diffusion)
    start = float(x0.mean()), float(x0.var())
    mean, var = jax.jit(lambda n: propagated(drift, lambda t: diffusion(LINEAR, t), n, *start))(
        steps
    )
    assert info.nfe == steps
    np.testing.assert_allclose(x.mean(), mean, atol=4 * np.sqrt(var / len(x)))
    np.testing.assert_allclose(x.var(), var, rtol=4 * np.sqrt(2 / len(x)))


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_evaluations_are_counted(solver):
    calls = []

    def counted(t, x, cond=None):
        jax.debug.callback(lambda: calls.append(1))
        return -x

    x, info = jax.jit(lambda x: sde.sde(counted, KEY, x, steps=3, solver=solver, last=0.1))(
        normal(2)
    )
    jax.effects_barrier()
    assert np.isfinite(x).all()
    assert info.nfe == len(calls) == 3 * _common.stages(solver) + 1


def test_marginals_of_a_mixture_on_the_way_and_at_the_end():
    options = {"solver": diffrax.SRA1(), "steps": 40, "ts": [0.0, 0.5, 1.0]}
    solve = jax.jit(lambda x: sde.sde(exact(MIXTURE), KEY, x, **options))
    x0 = normal(40_000)
    x, info = solve(x0)
    np.testing.assert_allclose(info.xs[0], x0, atol=1e-6)
    np.testing.assert_allclose(info.xs[2], x, atol=1e-5)
    for t, at in ((0.5, info.xs[1]), (1.0, x)):
        mean, var = moments(closed_forms.marginal(LINEAR.alpha, LINEAR.sigma, t, MIXTURE))
        np.testing.assert_allclose(at.mean(), mean, atol=0.03)
        np.testing.assert_allclose(at.var(), var, rtol=0.03)
    # and the shape: the share of the left mode
    np.testing.assert_allclose((x < -1).mean(), closed_forms.cdf_1d(MIXTURE, -1.0), atol=0.012)
    assert np.corrcoef(x0[:, 0], x[:, 0])[0, 1] < 0.9  # unlike the ODE's, a random map


@pytest.mark.parametrize(
    ("path", "options", "source"),
    [
        (paths.vp(), {"t1": 0.999}, None),
        (paths.ve(sigma_min=0.01, sigma_max=8.0), {"std": 8.0}, 8.0),
    ],
    ids=["vp", "ve"],
)
def test_other_paths_and_sources(path, options, source):
    net = exact(GAUSSIAN, path, source and closed_forms.gaussian([0.0], source))
    start = closed_forms.marginal(  # ve starts from x1 + x0, vp from all but x0
        path.alpha, path.sigma, jnp.float32(0), GAUSSIAN, closed_forms.gaussian([0.0], source or 1)
    )
    x0 = closed_forms.sample(jax.random.key(5), 20_000, start)
    options = {"path": path, "steps": 60, "solver": diffrax.Heun(), **options}
    x, _ = jax.jit(lambda x: sde.sde(net, KEY, x, diffusion=sde.quadratic, **options))(x0)
    np.testing.assert_allclose(x.mean(), 1.0, atol=0.02)
    np.testing.assert_allclose(x.std(), 0.5, atol=0.02)


@pytest.mark.parametrize("path", [LINEAR, paths.cosine(), paths.polynomial()])
def test_the_drift_is_finite_at_both_ends(path):
    drifts = [sde.drift_of(lambda t, x, cond=None: x, path, d) for d in DIFFUSIONS]
    at = jax.jit(lambda t: [drift(t, jnp.ones((2, 1))) for drift in drifts])
    for t in (0.0, 1.0):
        for diffusion, found in zip(DIFFUSIONS, at(t), strict=True):
            assert np.abs(found).max() < 100, diffusion


def test_without_diffusion_it_is_the_ode():
    x0 = normal(16)
    options = {"solver": diffrax.Heun(), "steps": 5, "ts": [0.3, 0.8]}
    x, info = jax.jit(lambda x: sde.sde(exact(MIXTURE), KEY, x, diffusion=zero, **options))(x0)
    want, ode_info = jax.jit(lambda x: ode.ode(exact(MIXTURE), None, x, **options))(x0)
    np.testing.assert_allclose(x, want, atol=1e-5)
    np.testing.assert_allclose(info.xs, ode_info.xs, atol=1e-5)
    assert info.nfe == ode_info.nfe


def test_randomness_is_the_keys():
    solve = jax.jit(lambda k: sde.sde(exact(GAUSSIAN), k, normal(8), steps=4)[0])
    np.testing.assert_array_equal(solve(KEY), solve(KEY))
    assert np.abs(solve(KEY) - solve(jax.random.key(8))).min() > 0
    # each step and each example has noise of its own
    pure = lambda t, x, cond=None: 0 * x  # noqa: E731
    net = VelocityScore(pure, pure)
    options = {"steps": 4, "diffusion": sde.constant, "ts": np.linspace(0, 1, 5)}
    xs = jax.jit(lambda x: sde.sde(net, KEY, x, **options)[1].xs)(jnp.zeros((2, 3)))
    assert len(np.unique(np.diff(xs, axis=0).round(6))) == 4 * 2 * 3


def test_a_constant_diffusion_is_refused_or_ends_with_a_step_without_noise():
    net = exact(GAUSSIAN)
    with pytest.raises(ValueError, match=r"g² is 1 at t=1\.0.*last=0\.04"):
        sde.sde(net, KEY, normal(4), diffusion=sde.constant)
    solve = jax.jit(
        lambda x: sde.sde(
            net, KEY, x, diffusion=sde.constant, steps=60, last=0.04, ts=[0.5, 0.96, 0.98, 1.0]
        )
    )
    x, info = solve(normal(20_000))
    assert info.nfe == 61
    np.testing.assert_allclose(x.mean(), 1.0, atol=0.02)
    np.testing.assert_allclose(x.std(), 0.5, atol=0.02)
    np.testing.assert_allclose(info.xs[3], x, atol=1e-5)
    np.testing.assert_allclose(info.xs[2], (info.xs[1] + x) / 2, atol=1e-5)


def two_nets(sigma=0.8):
    """The exact velocity and score of the Brownian bridge from N(0, 1) to GAUSSIAN."""
    gamma = functools.partial(bridges.root, scale=sigma)
    path = bridges.merged(path=LINEAR, gamma=gamma)
    net = exact(GAUSSIAN, path)
    inside = lambda t, x, cond=None: net(jnp.clip(t, 1e-3, 1 - 1e-3), x, cond)  # noqa: E731
    return VelocityScore(inside, nets.score(net, path=path)), gamma


def test_a_net_with_its_own_score_takes_any_diffusion_and_runs_both_ways():
    net, _ = two_nets()
    options = {
        "diffusion": functools.partial(sde.constant, g=0.8),
        "solver": diffrax.Heun(),
        "steps": 40,
    }
    x0 = normal(20_000)
    x1, info = jax.jit(lambda x: sde.sde(net, KEY, x, ts=[0.5], **options))(x0)
    assert info.nfe == 2 * 2 * 40
    np.testing.assert_allclose([x1.mean(), x1.std()], [1.0, 0.5], atol=0.02)
    var = 0.25 * (1 + 0.25) + 0.8**2 / 4
    np.testing.assert_allclose(info.xs[0].var(), var, rtol=0.04)
    key = jax.random.key(8)
    back, _ = jax.jit(lambda x: sde.sde(net, key, x, t0=1, t1=0, **options))(x1)
    np.testing.assert_allclose([back.mean(), back.std()], [0.0, 1.0], atol=0.03)


def test_condition_guidance_and_devices():
    data = closed_forms.mixture([0.5, 0.5], [[-2.0], [2.0]], 0.5)
    labels = jnp.arange(16) % 2
    guided = guidance.classifier_free(exact(data), scale=1.5, null=jnp.asarray(-1))
    solve = jax.jit(lambda x, c: sde.sde(guided, KEY, x, c, steps=8)[0])
    x = solve(normal(16), labels)
    assert np.all((np.asarray(x[:, 0]) > 0) == np.asarray(labels))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    put = lambda a: jax.device_put(a, NamedSharding(mesh, PartitionSpec("data")))  # noqa: E731
    np.testing.assert_allclose(solve(put(normal(16)), put(labels)), x, atol=1e-5)


def test_a_pair_of_nets_is_guided_net_by_net():
    net = VelocityScore(lambda t, x, c, key=None: x + c, lambda t, x, c, key=None: 2 * x * c)
    guided = guidance.classifier_free(net, scale=3.0, null=jnp.asarray(0.0))
    x, c = jnp.ones(4), jnp.full(4, 0.5)
    np.testing.assert_allclose(guided(0.5, x, c), x + 1.5)
    np.testing.assert_allclose(guided.score(0.5, x, c), 3.0)
    weak = VelocityScore(lambda t, x, c=None, key=None: x, lambda t, x, c=None, key=None: 0 * x)
    auto = guidance.autoguidance(net, weak=weak, scale=2.0)
    np.testing.assert_allclose(auto(0.5, x, c), x + 1.0)
    np.testing.assert_allclose(auto.score(0.5, x, c), 2.0)


def test_differentiable_in_what_the_net_closes_over():
    def mean(w):
        return sde.sde(lambda t, x, cond=None: w * x, KEY, jnp.ones((4, 1)), steps=3)[0].mean()

    slope = jax.jit(jax.grad(mean))(0.5)
    f = jax.jit(mean)
    np.testing.assert_allclose(slope, (f(0.505) - f(0.495)) / 0.01, rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps=0"),
        ({"t0": 0.5, "t1": 0.5}, ValueError, "two different times"),
        ({"last": 1.0}, ValueError, r"last=1\.0"),
        ({"last": 0.1, "t0": 1, "t1": 0}, ValueError, "last"),
        ({"solver": diffrax.Dopri5()}, TypeError, "Dopri5"),
        ({"ts": [2.0]}, ValueError, "save points"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        sde.sde(lambda t, x, cond=None: x, KEY, normal(2), **options)


def test_a_score_from_the_velocity_of_pairs_warns():
    def assembled(name, *changes):
        path = CONFIGS / f"{name}.py"
        tiny = settings.load_config(path)["tiny"]
        return assemble.assemble(settings.load_config(path, (*tiny, *changes)))

    with pytest.warns(UserWarning, match="gives it only where x0 is normal, independent of x1"):
        assembled("ot_cfm", "sampler=fmjax.samplers.sde:sde")
    assembled("schroedinger")  # it has a score of its own
    assembled("moons", "source=fmjax.sources:normal", "sampler=fmjax.samplers.sde:sde")
