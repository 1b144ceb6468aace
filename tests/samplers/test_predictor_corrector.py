import closed_forms
import diffrax
import jax
import numpy as np
import pytest

from fmjax import paths
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers.ode import ode
from fmjax.samplers.predictor_corrector import predictor_corrector

DATA = closed_forms.mixture([0.3, 0.7], [[-2.0], [1.0]], [[0.3], [0.6]])
KEY = jax.random.key(7)
X0 = jax.random.normal(jax.random.key(3), (20_000, 1))


def exact(path=paths.linear(), source=None):
    return closed_forms.field(path.alpha, path.sigma, DATA, source)


def solve(net, x0, **options):
    return jax.jit(lambda x: predictor_corrector(net, KEY, x, **options))(x0)


def test_moments_and_shape_of_a_mixture():
    x, _ = solve(exact(), X0, solver=diffrax.Heun(), steps=40)
    np.testing.assert_allclose([x.mean(), x.var()], [0.1, 2.169], atol=0.06)
    np.testing.assert_allclose((x < -1).mean(), closed_forms.cdf_1d(DATA, -1.0), atol=0.015)
    assert np.corrcoef(X0[:, 0], x[:, 0])[0, 1] < 0.9


def test_corrections_mend_a_coarse_predictor():
    """Started from a wrong source, which only Langevin steps can forget."""
    wrong = 0.5 * X0
    path = paths.linear()
    without, _ = solve(exact(), wrong, solver=diffrax.Heun(), steps=20, corrections=0)
    options = {"solver": diffrax.Heun(), "steps": 20, "corrections": 10, "snr": 0.3, "path": path}
    x, _ = solve(exact(), wrong, **options)
    assert abs(without.var() - 2.169) > 0.3
    assert abs(x.var() - 2.169) < 0.15


def test_a_source_of_another_deviation():
    path, std = paths.ve(sigma_min=0.01, sigma_max=8.0), 8.0
    net = exact(path, closed_forms.gaussian([0.0], std))
    start = closed_forms.sample(KEY, len(X0), DATA) + std * X0
    x, _ = solve(net, start, path=path, std=std, solver=diffrax.Heun(), steps=60, snr=0.2)
    np.testing.assert_allclose([x.mean(), x.var()], [0.1, 2.169], atol=0.08)


@pytest.mark.parametrize("corrections", [0, 2])
def test_evaluations_are_counted(corrections):
    calls = []

    def counted(t, x, cond=None):
        jax.debug.callback(lambda: calls.append(1))
        return x * cond

    def run(x):
        options = {"steps": 3, "solver": diffrax.Heun(), "corrections": corrections}
        return predictor_corrector(counted, KEY, x, 0.5, **options)

    x, info = jax.jit(run)(X0[:2])
    jax.effects_barrier()
    assert info.nfe == len(calls) == 6 + 2 * corrections
    if not corrections:
        want, _ = ode(
            lambda t, x, cond: x * cond, None, X0[:2], 0.5, solver=diffrax.Heun(), steps=3
        )
        np.testing.assert_allclose(x, want, rtol=1e-5)


def test_bad_arguments_are_named():
    for options, message in [
        ({"steps": 0}, "steps=0"),
        ({"t0": 1, "t1": 0}, "t0 < t1"),
        ({"snr": 0.0}, r"snr=0\.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            predictor_corrector(exact(), KEY, X0, **options)
    with pytest.raises(ValueError, match="score of its own"):
        predictor_corrector(VelocityScore(exact(), exact()), KEY, X0)
