import functools

import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths
from fmjax.samplers.ode import ode
from fmjax.samplers.partial import partial
from fmjax.samplers.sde import sde

DATA = closed_forms.gaussian([1.0, -2.0], [0.5, 0.8])
X0 = jax.random.normal(jax.random.key(0), (6, 2))
IMAGE = jax.random.normal(jax.random.key(1), (6, 2)) + 1


@pytest.mark.parametrize("path", [paths.linear(), paths.cosine()], ids=["linear", "cosine"])
def test_from_the_paths_point_the_flow_goes_on(path):
    net = closed_forms.field(path.alpha, path.sigma, DATA)
    x1, _ = partial(net, None, X0, sampler=ode, image=IMAGE, strength=0.7, path=path)
    noisy = path.alpha(0.3) * IMAGE + path.sigma(0.3) * X0
    expected = closed_forms.flow_map(path.alpha, path.sigma, 0.3, 1.0, noisy, DATA)
    np.testing.assert_allclose(x1, expected, atol=1e-3)


def test_at_full_strength_it_is_the_sampler_and_at_little_the_image():
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, DATA)
    x1, _ = partial(net, None, X0, sampler=ode, image=IMAGE[0], strength=1)
    np.testing.assert_array_equal(x1, ode(net, None, X0)[0])
    near, _ = partial(net, None, X0, sampler=ode, image=IMAGE[0], strength=0.001)
    np.testing.assert_allclose(near, np.broadcast_to(IMAGE[0], near.shape), atol=0.02)


@pytest.mark.parametrize(
    "sampler",
    [functools.partial(ode, solver=diffrax.Heun(), steps=3), functools.partial(sde, steps=4)],
    ids=["ode", "sde"],
)
def test_evaluations_are_those_of_the_sampler_and_none_is_earlier(sampler):
    times = []

    def net(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda t: times.append(float(t)), t)
        return -x * cond[:, None]

    run = functools.partial(partial, image=IMAGE, strength=0.25, sampler=sampler)
    _, info = jax.jit(lambda x: run(net, jax.random.key(3), x, jnp.ones(6)))(X0)
    jax.effects_barrier()
    assert len(times) == info.nfe
    assert min(times) == 0.75


def test_mistakes_are_named():
    net = lambda t, x, cond=None: x  # noqa: E731
    for strength in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"expected above 0 \(the image\) to 1"):
            partial(net, None, X0, sampler=ode, image=IMAGE, strength=strength)
    for wrong in (IMAGE[:3], IMAGE[:, :, None], jnp.zeros(3)):
        with pytest.raises(ValueError, match="image has shape"):
            partial(net, None, X0, sampler=ode, image=wrong)
