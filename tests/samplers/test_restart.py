import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers.ode import ode
from fmjax.samplers.restart import restart

DATA = closed_forms.mixture([0.3, 0.7], [[-2.0], [1.0]], [[0.3], [0.6]])
KEY = jax.random.key(7)
X0 = jax.random.normal(jax.random.key(3), (20_000, 1))


def exact(path=paths.linear()):
    return closed_forms.field(path.alpha, path.sigma, DATA)


def test_moments_and_shape_of_a_mixture():
    x, _ = jax.jit(lambda x: restart(exact(), KEY, x, steps=40))(X0)
    np.testing.assert_allclose([x.mean(), x.var()], [0.1, 2.169], atol=0.06)
    np.testing.assert_allclose((x < -1).mean(), closed_forms.cdf_1d(DATA, -1.0), atol=0.015)
    assert np.corrcoef(X0[:, 0], x[:, 0])[0, 1] < 0.9


@pytest.mark.parametrize("std", [1.0, 5.0])
@pytest.mark.parametrize("path", [paths.linear(), paths.cosine()], ids=["linear", "cosine"])
def test_renoising_has_the_law_of_the_earlier_time(path, std):
    """With a net that does not move, all there is are the jumps from x_b to x_a."""
    still = lambda t, x, cond=None: 0 * x  # noqa: E731
    a, b = (jnp.float32(t) for t in (0.25, 0.5))
    x_b = path.alpha(b) * 3.0 + path.sigma(b) * std * X0  # x1 = 3
    options = {"path": path, "interval": (0.25, 0.5), "repeats": 1, "steps": 4, "std": std}
    x, _ = jax.jit(lambda x: restart(still, KEY, x, **options))(x_b)
    np.testing.assert_allclose(x.mean(), 3 * path.alpha(a), atol=0.03 * std)
    np.testing.assert_allclose(x.std(), path.sigma(a) * std, rtol=0.02)


@pytest.mark.parametrize("repeats", [0, 3])
def test_evaluations_are_counted_and_times_walked_in_order(repeats):
    times = []

    def seen(t, x, cond=None):
        jax.debug.callback(lambda t: times.append(float(t)), t, ordered=True)
        return x * cond

    def run(x):
        options = {"interval": (0.25, 0.65), "repeats": repeats, "steps": 5}
        return restart(seen, KEY, x, 0.5, solver=diffrax.Euler(), **options)

    x, info = jax.jit(run)(X0[:2])
    jax.effects_barrier()
    assert info.nfe == len(times) == 5 + 2 * repeats
    # the grid's times nearest to the interval are 0.2 and 0.6
    want = np.array([0.0, 0.2, 0.4, *(repeats * [0.2, 0.4]), 0.6, 0.8])
    np.testing.assert_allclose(times, want, atol=1e-6)
    if not repeats:
        options = {"solver": diffrax.Euler(), "steps": 5}
        want, _ = ode(lambda t, x, cond: x * cond, None, X0[:2], 0.5, **options)
        np.testing.assert_allclose(x, want, rtol=1e-5)


def test_noise_is_added_where_the_walk_goes_back_and_nowhere_else():
    seen = []

    def still(t, x, cond=None):
        jax.debug.callback(lambda x: seen.append(float(x[0, 0])), x, ordered=True)
        return 0 * x

    options = {"interval": (0.25, 0.65), "repeats": 2, "steps": 5}
    x, _ = jax.jit(lambda x: restart(still, KEY, x, solver=diffrax.Euler(), **options))(X0[:1])
    jax.effects_barrier()
    # 0, 0.2, 0.4, then twice 0.2, 0.4, then 0.6, 0.8
    assert np.flatnonzero(np.diff(seen)).tolist() == [2, 4]
    np.testing.assert_array_equal(x[0, 0], seen[-1])


def test_bad_arguments_are_named():
    for options in (
        {"interval": (0.9, 0.5)},
        {"interval": (0.5, 1.0)},
        {"repeats": -1},
        {"steps": 1},
        {"t0": 1, "t1": 0},
    ):
        with pytest.raises(ValueError, match="interval"):
            restart(exact(), KEY, X0, **options)
    with pytest.raises(ValueError, match="score of its own"):
        restart(VelocityScore(exact(), exact()), KEY, X0)
