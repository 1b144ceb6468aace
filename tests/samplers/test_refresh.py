import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers.refresh import refresh

LINEAR = paths.linear()
DATA = closed_forms.mixture([0.3, 0.7], [[-2.0], [1.0]], [[0.3], [0.6]])
KEY = jax.random.key(7)
X0 = jax.random.normal(jax.random.key(3), (20_000, 1))


def exact(path=LINEAR, source=None, data=DATA):
    return closed_forms.field(path.alpha, path.sigma, data, source)


@pytest.mark.parametrize("eta", [0, 1.0])
def test_moments_of_a_mixture(eta):
    x, info = jax.jit(lambda x: refresh(exact(), KEY, x, eta=eta, steps=150))(X0)
    np.testing.assert_allclose([x.mean(), x.var()], [0.1, 2.169], atol=0.08)
    correlation = np.corrcoef(X0[:, 0], x[:, 0])[0, 1]
    assert correlation > 0.9 if eta == 0 else correlation < 0.85
    assert info.nfe == 150


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_error_in_variance_is_of_order_one_over_steps(eta):
    """Gaussian data: each step is affine in x, so that two starts and the noise tell it all."""
    data = closed_forms.gaussian([1.0], 0.5)
    net = exact(data=data)

    def variance(steps):
        x0 = jnp.stack([X0[:, 0], -X0[:, 0]], axis=1).reshape(-1, 1)  # mean 0 exactly
        x, _ = jax.jit(lambda x: refresh(net, KEY, x / x.std(), eta=eta, steps=steps))(x0)
        return float(x.var())

    few, many = (abs(variance(n) - 0.25) for n in (40, 160))
    assert few > 2.5 * many  # 4 in the limit; the variance is known to 0.002
    assert many < 0.015


def test_other_paths_and_sources():
    path, std = paths.ve(sigma_min=0.01, sigma_max=8.0), 8.0
    net = exact(path, closed_forms.gaussian([0.0], std))
    start = closed_forms.sample(KEY, len(X0), DATA) + std * X0
    x, _ = jax.jit(lambda x: refresh(net, KEY, x, path=path, std=std, steps=150))(start)
    np.testing.assert_allclose([x.mean(), x.var()], [0.1, 2.169], atol=0.1)
    # the derivative is 0 and α is 0 at the start of this one
    options = {"path": paths.polynomial(), "steps": 3}
    x, _ = jax.jit(lambda x: refresh(exact(), KEY, x, **options))(X0[:4])
    assert np.isfinite(x).all()


def test_without_noise_it_is_exact_for_one_point_and_calls_the_net_once_a_step():
    calls = []

    def net(t, x, cond=None):  # all data at cond
        jax.debug.callback(lambda: calls.append(1))
        return (cond - x) / (1 - t)

    x, info = jax.jit(lambda x: refresh(net, KEY, x, 3.0, steps=4))(X0[:2])
    jax.effects_barrier()
    np.testing.assert_allclose(x, 3.0, atol=1e-5)
    assert info.nfe == len(calls) == 4


def test_bad_arguments_are_named():
    for options, message in [
        ({"steps": 0}, "steps=0"),
        ({"eta": 1.5}, r"eta=1\.5"),
        ({"t0": 1, "t1": 0}, "t0 < t1"),
    ]:
        with pytest.raises(ValueError, match=message):
            refresh(exact(), KEY, X0, **options)
    with pytest.raises(ValueError, match="score of its own"):
        refresh(VelocityScore(exact(), exact()), KEY, X0)
