import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import nets, paths
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers import ode

DATA = closed_forms.mixture([0.3, 0.7], [[-2.0, 0.0], [1.0, 1.0]], 0.5)
STD = 20.0
PATHS = {
    "linear": paths.linear(),
    "cosine": paths.cosine(),
    "polynomial": paths.polynomial(power=2.0),
    "vp": paths.vp(),
    "linear_vp": paths.linear_vp(),
    "ve": paths.ve(sigma_min=0.01, sigma_max=STD),
}
X = jax.random.normal(jax.random.key(0), (8, 2))
SOURCE = closed_forms.gaussian([0.0, 0.0], STD)


def exact(path, source=None):
    return closed_forms.field(path.alpha, path.sigma, DATA, source)


@pytest.fixture(params=PATHS)
def case(request):
    """A path, its source, the source's deviation."""
    ve = request.param == "ve"
    return PATHS[request.param], SOURCE if ve else None, STD if ve else 1.0


def test_score_denoiser_and_noise_are_the_exact_ones(case):
    path, source, std = case
    net = exact(path, source)
    for t in (0.3, jnp.linspace(0.1, 0.9, 8)):
        x1, x0 = closed_forms.posterior(path.alpha, path.sigma, t, X, DATA, source)
        got1, got0 = nets.ends(net, path=path)(t, X)
        np.testing.assert_allclose(got1, x1, atol=2e-3)
        np.testing.assert_allclose(got0, x0, atol=2e-3 * std)
        np.testing.assert_array_equal(nets.denoiser(net, path=path)(t, X), got1)
        np.testing.assert_array_equal(nets.noise(net, path=path)(t, X), got0)
        if jnp.ndim(t) == 0:
            at = closed_forms.marginal(path.alpha, path.sigma, jnp.float32(t), DATA, source)
            want = closed_forms.score(at, X)
            got = nets.score(net, path=path, std=std)(t, X)
            np.testing.assert_allclose(got, want, atol=2e-3 * (1 + np.abs(want).max()))


def test_both_ends_of_time_have_finite_and_nearly_exact_values(case):
    path, source, std = case
    net = exact(path, source)
    for t in (0.0, 1.0):
        x1, x0 = nets.ends(net, path=path)(t, X)
        assert np.isfinite(x1).all()
        assert np.isfinite(x0).all()
        # for a mixture with a density the score has a limit at the data, which 1 − eps is near
        inside = min(max(t, 1e-3), 1 - 1e-3)
        at = closed_forms.marginal(path.alpha, path.sigma, jnp.float32(inside), DATA, source)
        want = closed_forms.score(at, X)
        got = nets.score(net, path=path, std=std)(t, X)
        np.testing.assert_allclose(got, want, atol=0.02 * np.abs(want).max())
    x1, _ = nets.ends(net, path=path)(1.0, X)
    np.testing.assert_allclose(x1, X, atol=0.05)


PAIRS = [
    # the path of training, the other, the absolute error allowed, whether its ends are exact
    ("linear", "cosine", 1e-4, True),
    ("cosine", "linear", 1e-4, True),
    ("linear", "linear_vp", 1e-4, False),
    ("linear_vp", "linear", 1e-4, False),
    ("vp", "linear", 4e-3, False),
    ("linear", "vp", 4e-3, False),
    ("ve", "polynomial", 4e-3, False),
]


@pytest.mark.parametrize(("trained", "to", "error", "ends"), PAIRS)
def test_a_rescheduled_exact_field_is_the_exact_field_of_the_other_path(trained, to, error, ends):
    def unit(name):  # every source with deviation 1
        return paths.scaled(PATHS[name], std=STD) if name == "ve" else PATHS[name]

    path, other = unit(trained), unit(to)
    net = nets.reschedule(exact(path), path=path, to=other)
    t = jnp.linspace(0.0 if ends else 0.25, 1.0 if ends else 0.95, 8)
    want = closed_forms.velocity(other.alpha, other.sigma, t, X, DATA)
    np.testing.assert_allclose(net(t, X), want, atol=error * (1 + np.abs(want).max()))
    want = closed_forms.velocity(other.alpha, other.sigma, 0.5, X, DATA)
    np.testing.assert_allclose(net(0.5, X), want, atol=error * (1 + np.abs(want).max()))


def test_what_a_path_does_not_reach_is_answered_by_its_end():
    path = paths.scaled(PATHS["ve"], std=STD)
    net = nets.reschedule(exact(path), path=path, to=paths.linear())
    # at t = 0 the mean of the data is known only as well as noise of 20 lets it be guessed
    x1, _ = nets.ends(exact(path), path=path)(0.0, X * float(jnp.hypot(1.0, STD)))
    np.testing.assert_allclose(net(0.0, X), x1 - X, atol=0.1)


def test_samples_of_a_rescheduled_net_are_those_of_the_net():
    path, to = paths.linear(), paths.cosine()
    net = exact(path)
    other = nets.reschedule(net, path=path, to=to)
    options = {"solver": diffrax.Heun(), "steps": 60}
    first, second = (jax.jit(lambda n=n: ode.ode(n, None, X, **options)[0])() for n in (net, other))
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_condition_and_keywords_reach_the_net():
    def net(t, x, cond=None, *, key=None):
        return x * cond + key

    for wrap in (nets.score, nets.denoiser, nets.noise, nets.ends):
        wrap(net, path=paths.linear())(0.5, X, 2.0, key=1.0)
    got = nets.reschedule(net, path=paths.linear(), to=paths.linear())(0.5, X, 2.0, key=1.0)
    np.testing.assert_allclose(got, 2 * X + 1, atol=1e-5)


def test_a_score_of_its_own_is_taken_and_such_a_net_is_not_converted():
    net = VelocityScore(lambda t, x, cond=None: x, lambda t, x, cond=None: -3 * x)
    assert nets.score(net, path=paths.linear()) is net.score
    np.testing.assert_array_equal(net(0.5, X), X)
    for wrap in (nets.denoiser, nets.noise, nets.ends):
        with pytest.raises(ValueError, match="score of its own"):
            wrap(net, path=paths.linear())
    with pytest.raises(ValueError, match="score of its own"):
        nets.reschedule(net, path=paths.linear(), to=paths.cosine())
