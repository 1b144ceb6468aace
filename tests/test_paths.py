import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths, sources

PATHS = {
    "linear": paths.linear(),
    "linear, sigma_min": paths.linear(sigma_min=0.1),
    "cosine": paths.cosine(),
    "polynomial": paths.polynomial(power=3.0),
    "vp": paths.vp(),
    "linear_vp": paths.linear_vp(),
}
ROWS = [paths.x1, paths.x0, paths.velocity, paths.score]
T = jnp.array([0.1, 0.3, 0.5, 0.8, 0.95])
X0 = jax.random.normal(jax.random.key(0), (5, 3, 2))
X1 = 2 * jax.random.normal(jax.random.key(1), (5, 3, 2)) + 1


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


def value(path, row, t, x0, x1):
    """What a perfect prediction of this row is, for known ends."""
    a, b = row(path, t)
    return paths.like(a, x1) * x1 + paths.like(b, x0) * x0


def test_velocity_is_the_time_derivative_of_the_point(path):
    def point(t):
        return paths.interpolate(path, t, X0, X1)[0]

    h = 5e-3
    difference = (point(T + h) - point(T - h)) / (2 * h)
    np.testing.assert_allclose(paths.interpolate(path, T, X0, X1)[1], difference, atol=2e-2)


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial"])
def test_ends_are_exactly_noise_and_data(name):
    for t, end in ((0.0, X0), (1.0, X1)):
        xt, ut = paths.interpolate(PATHS[name], t, X0, X1)
        np.testing.assert_array_equal(xt, end)
        assert np.isfinite(ut).all()


def test_vp_ends_at_data_with_an_infinite_velocity():
    xt, ut = paths.interpolate(paths.vp(), 1.0, X0, X1)
    np.testing.assert_array_equal(xt, X1)
    assert not np.isfinite(ut).any()
    assert np.isfinite(paths.interpolate(paths.vp(), 0.999, X0, X1)[1]).all()
    np.testing.assert_allclose(paths.vp().alpha(jnp.float32(0)), 0.00657, rtol=1e-2)


def test_variance_preserving_paths_keep_the_variance():
    for path in (paths.vp(), paths.cosine(), paths.linear_vp()):
        np.testing.assert_allclose(path.alpha(T) ** 2 + path.sigma(T) ** 2, 1, atol=1e-6)


@pytest.mark.parametrize("source", ROWS)
@pytest.mark.parametrize("target", ROWS)
def test_every_prediction_converts_to_every_other(path, source, target):
    xt, _ = paths.interpolate(path, T, X0, X1)
    got = paths.convert(path, T, xt, value(path, source, T, X0, X1), of=source, to=target)
    want = value(path, target, T, X0, X1)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * np.abs(want).max())


@pytest.mark.parametrize("source", ROWS)
@pytest.mark.parametrize("target", ROWS)
def test_weight_is_the_ratio_of_squared_errors(path, source, target):
    xt, _ = paths.interpolate(path, T, X0, X1)
    guess = jax.random.normal(jax.random.key(2), X0.shape)
    error = guess - value(path, source, T, X0, X1)
    convert = lambda p: paths.convert(path, T, xt, p, of=source, to=target)  # noqa: E731
    converted = convert(guess) - convert(guess - error)
    squared = lambda e: jnp.sum(e**2, axis=(1, 2))  # noqa: E731
    ratio = paths.weight(T, path=path, of=source, to=target)
    np.testing.assert_allclose(squared(converted), ratio * squared(error), rtol=1e-2)


@pytest.mark.parametrize("row", ROWS)
def test_conversion_to_itself_is_the_identity_even_where_it_would_be_singular(path, row):
    for t in (0.0, 1.0):
        same = paths.convert(path, t, X0, X1, of=row, to=row)
        np.testing.assert_array_equal(same, X1)


def test_velocity_converts_at_both_ends_of_the_linear_path():
    v = X1 - X0
    for t, xt in ((0.0, X0), (1.0, X1)):
        to = lambda row, t=t, xt=xt: paths.convert(  # noqa: E731
            paths.linear(), t, xt, v, of=paths.velocity, to=row
        )
        np.testing.assert_allclose(to(paths.x1), X1, atol=1e-6)
        np.testing.assert_allclose(to(paths.x0), X0, atol=1e-6)
    assert not np.isfinite(to(paths.score)).any()  # at t = 1, as its docstring says


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_marginal_velocity_and_score_of_a_mixture_convert_into_each_other(path, t):
    data = closed_forms.mixture([0.3, 0.7], [[-2.0, 0.0], [1.0, 1.0]], 0.5)
    x = jax.random.normal(jax.random.key(3), (64, 2))
    v = closed_forms.velocity(path.alpha, path.sigma, t, x, data)
    at = closed_forms.marginal(path.alpha, path.sigma, t, data)
    got = paths.convert(path, t, x, v, of=paths.velocity, to=paths.score)
    want = closed_forms.score(at, x)
    np.testing.assert_allclose(got, want, atol=1e-3 * (1 + np.abs(want).max()))


def test_marginal_velocity_is_the_mean_of_conditional_ones(path):
    """E[u_t | x_t] by importance over draws of the data, to 1e-5 of the closed form."""
    data = closed_forms.mixture([0.4, 0.6], [[-1.0], [1.5]], 1e-4)
    x1 = data.means  # two points carry all the mass
    x = jnp.linspace(-1.5, 1.5, 7)[:, None]
    t = 0.4
    alpha, sigma = path.alpha(jnp.float32(t)), path.sigma(jnp.float32(t))
    x0 = (x[:, None] - alpha * x1[None]) / sigma
    logits = jnp.log(data.weights)[None] - 0.5 * x0[..., 0] ** 2
    ut = jax.vmap(lambda a: paths.interpolate(path, jnp.full(2, t), a, x1)[1])(x0)
    mean = jnp.einsum("nk,nkd->nd", jax.nn.softmax(logits), ut)
    want = closed_forms.velocity(path.alpha, path.sigma, t, x, data)
    np.testing.assert_allclose(mean, want, atol=1e-5 * (1 + np.abs(want).max()))


def test_bridge_is_the_path_and_ignores_its_key():
    point = paths.bridge(paths.cosine())
    a, b = (point(jax.random.key(i), T, X0, X1) for i in (0, 1))
    np.testing.assert_array_equal(a.xt, b.xt)
    np.testing.assert_array_equal(a.ut, paths.interpolate(paths.cosine(), T, X0, X1)[1])


def test_polynomial_of_a_power_below_one_is_refused():
    with pytest.raises(ValueError, match=r"power 0\.5"):
        paths.polynomial(power=0.5)


def test_ve_adds_noise_from_sigma_min_to_sigma_max():
    path, like = paths.ve(sigma_min=0.1, sigma_max=10.0), jnp.zeros((100_000, 1))
    x0 = sources.normal(jax.random.key(0), like, std=10.0)
    for t, std in ((0.0, 10.0), (0.5, 1.0), (1.0, 0.1)):
        xt, _ = paths.interpolate(path, t, x0, like + 3)
        np.testing.assert_allclose(xt.mean(), 3, atol=0.05 * std)
        np.testing.assert_allclose(xt.std(), std, rtol=0.01)


@pytest.mark.parametrize("t", [0.1, 0.9])
def test_the_score_for_a_source_of_another_deviation(t):
    std, path = 10.0, paths.ve(sigma_min=0.1, sigma_max=10.0)
    data = closed_forms.mixture([0.3, 0.7], [[-2.0], [1.0]], 0.5)
    source, x = closed_forms.gaussian([0.0], std), jnp.linspace(-2, 2, 9)[:, None]
    v = closed_forms.velocity(path.alpha, path.sigma, t, x, data, source)
    want = closed_forms.score(
        closed_forms.marginal(path.alpha, path.sigma, jnp.float32(t), data, source), x
    )
    row = paths.score_of(std=std)
    got = paths.convert(path, t, x, v, of=paths.velocity, to=row)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    # the same points, written with a source of deviation 1
    unit = paths.scaled(path, std=std)
    got = paths.convert(unit, t, x, v, of=paths.velocity, to=paths.score)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
