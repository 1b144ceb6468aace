import functools

import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers.inpaint import inpaint
from fmjax.samplers.ode import ode
from fmjax.samplers.sde import sde

KEY = jax.random.key(7)
X0 = jax.random.normal(jax.random.key(0), (5, 2, 2, 1))
IMAGE = jnp.arange(4.0).reshape(2, 2, 1) / 4
MASK = jnp.array([[True, False], [False, True]])[:, :, None]
SPREAD = closed_forms.gaussian([1.0, -1.0, 0.5, 0.0], [0.5, 0.8, 0.6, 1.2])


def test_all_painted_is_the_ode_and_nothing_painted_the_image():
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, SPREAD)
    run = jax.jit(lambda mask: inpaint(net, KEY, X0, image=IMAGE, mask=mask, steps=8)[0])
    plain = jax.jit(lambda x: ode(net, None, x, solver=diffrax.Heun(), steps=8)[0])(X0)
    np.testing.assert_allclose(run(jnp.ones((2, 2, 1), bool)), plain, atol=1e-5)
    none = run(jnp.zeros((2, 2, 1), bool))
    np.testing.assert_array_equal(none, np.broadcast_to(IMAGE, none.shape))


@pytest.mark.parametrize("path", [paths.linear(), paths.cosine()], ids=["linear", "cosine"])
def test_known_pixels_are_exact_and_independent_ones_as_without_a_mask(path):
    net = closed_forms.field(path.alpha, path.sigma, SPREAD)
    image = jnp.broadcast_to(IMAGE, X0.shape) + jnp.arange(5.0).reshape(-1, 1, 1, 1)
    options = {"image": image, "mask": MASK, "steps": 40, "path": path}
    x1 = jax.jit(lambda x: inpaint(net, KEY, x, **options)[0])(X0)
    known = ~np.broadcast_to(MASK, x1.shape)
    np.testing.assert_array_equal(x1[known], image[known])
    free = closed_forms.flow_map(path.alpha, path.sigma, 0.0, 1.0, X0, SPREAD)
    np.testing.assert_allclose(x1[~known], free[~known], atol=0.02)


def test_known_pixels_are_on_the_path_with_one_noise():
    seen = []

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda t, x: seen.append((float(t), np.asarray(x))), t, x)
        return 0 * x

    euler = functools.partial(ode, solver=diffrax.Euler(), steps=1)
    jax.jit(lambda x: inpaint(net, KEY, x, image=IMAGE, mask=MASK, steps=4, sampler=euler))(X0)
    jax.effects_barrier()
    known = ~np.broadcast_to(MASK, X0.shape)
    assert sorted(t for t, _ in seen) == [0.0, 0.25, 0.5, 0.75]
    for t, x in seen:
        np.testing.assert_allclose(x[known], (t * IMAGE[None] + (1 - t) * X0)[known], atol=1e-6)


DOPRI5 = functools.partial(ode, solver=diffrax.Dopri5(), steps=1)
EULER_MARUYAMA = functools.partial(sde, solver=diffrax.Euler(), steps=1)


@pytest.mark.parametrize(
    ("sampler", "steps", "repeats", "nfe"),
    [
        pytest.param(DOPRI5, 6, 1, 42, marks=pytest.mark.complete),
        (DOPRI5, 6, 3, 126),
        (EULER_MARUYAMA, 2, 2, 4),
    ],
)
def test_evaluations_are_counted(sampler, steps, repeats, nfe):
    calls = []

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda: calls.append(1))
        return -x * cond.reshape(-1, 1, 1, 1)

    options = {"image": IMAGE, "mask": MASK, "steps": steps, "jump": 4, "repeats": repeats}
    run = jax.jit(lambda x: inpaint(net, KEY, x, jnp.ones(5), sampler=sampler, **options))
    x1, info = run(X0)
    jax.effects_barrier()
    assert len(calls) == info.nfe == nfe
    assert np.isfinite(x1).all()


def test_going_back_settles_painted_with_known_pixels():
    """Two correlated numbers, the second known: the first's law is a Gaussian by hand."""
    rho = 0.9
    pair = closed_forms.gaussian([0.0, 0.0])
    pair = pair._replace(covs=jnp.array([[[1.0, rho], [rho, 1.0]]]))
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, pair)
    x0 = jax.random.normal(jax.random.key(2), (4000, 2))
    mask, image = jnp.array([True, False]), jnp.array([0.0, 1.5])

    @functools.partial(jax.jit, static_argnums=1)
    def error(x, repeats):
        options = {"image": image, "mask": mask, "steps": 16, "jump": 4, "repeats": repeats}
        return abs(inpaint(net, KEY, x, **options)[0][:, 0].mean() - rho * 1.5)

    assert error(x0, 8) < 0.2 < 0.6 < error(x0, 1)


def test_going_back_to_the_start_takes_noise_of_the_source():
    still = lambda t, x, cond=None, *, key=None: 0 * x  # noqa: E731
    options = {"image": jnp.zeros(1), "mask": jnp.ones(1, bool), "steps": 2, "jump": 2}
    run = functools.partial(inpaint, still, KEY, repeats=2, std=3.0, **options)
    x1, _ = jax.jit(run)(jnp.zeros((20_000, 1)))
    np.testing.assert_allclose([x1.mean(), x1.std()], [0.0, 3.0], atol=0.07)


def test_a_stochastic_sampler_walks_its_own_path():
    data = closed_forms.gaussian([1.0, -1.0], [0.5, 0.7])
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, data)
    x0 = jax.random.normal(jax.random.key(2), (4000, 2))
    mask, image = jnp.array([True, False]), jnp.array([0.0, 3.0])
    sampler = functools.partial(sde, steps=8)
    run = functools.partial(inpaint, image=image, mask=mask, steps=4, sampler=sampler)
    x1 = jax.jit(lambda x: run(net, KEY, x)[0])(x0)[:, 0]
    np.testing.assert_allclose([x1.mean(), x1.std()], [1.0, 0.5], atol=0.04)


def test_mistakes_are_named():
    net = lambda t, x, cond=None: x  # noqa: E731
    run = functools.partial(inpaint, net, KEY, X0)
    for options in ({"repeats": 0}, {"jump": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match="expected at least 1 of each"):
            run(image=IMAGE, mask=MASK, **options)
    with pytest.raises(ValueError, match="mask has shape"):
        run(image=IMAGE, mask=MASK[:1])
    with pytest.raises(ValueError, match="image has shape"):
        run(image=IMAGE[..., 0], mask=MASK)
    with pytest.raises(ValueError, match="score of its own"):
        inpaint(VelocityScore(net, net), KEY, X0, image=IMAGE, mask=MASK)
