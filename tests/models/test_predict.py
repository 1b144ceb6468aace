import closed_forms
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import paths
from fmjax.models.predict import predict
from fmjax.types import Model

DATA = closed_forms.mixture([0.5, 0.5], [[-1.0, 0.5], [1.0, 0.0]], 0.4)


@pytest.mark.parametrize("row", [paths.x1, paths.x0, paths.score])
@pytest.mark.parametrize("path", [paths.linear(), paths.cosine(), paths.vp()])
def test_an_exact_prediction_becomes_the_exact_velocity(path, row):
    def apply(params, t, x, cond=None, *, key=None):
        x1, x0 = closed_forms.posterior(path.alpha, path.sigma, t, x, DATA)
        a, b = row(path, jnp.asarray(t))
        return a * x1 + b * x0

    model = predict(Model(None, apply), path=path, row=row)
    x = jax.random.normal(jax.random.key(0), (16, 2))

    @jax.jit
    def found_and_wanted(t):
        return model.apply(None, t, x), closed_forms.velocity(path.alpha, path.sigma, t, x, DATA)

    for t in (0.1, 0.5, 0.9):
        found, want = found_and_wanted(t)
        np.testing.assert_allclose(found, want, atol=1e-3 * (1 + np.abs(want).max()))


@pytest.mark.parametrize("row", [paths.x1, paths.x0, paths.score])
def test_the_velocity_is_finite_at_both_ends(row):
    model = predict(Model(None, lambda params, t, x, cond=None: x), path=paths.linear(), row=row)
    apply = jax.jit(lambda t: model.apply(None, t, jnp.ones((3, 2))))
    for t in (0.0, 1.0):
        assert np.isfinite(apply(t)).all()


def test_of_a_tuple_only_the_prediction_is_converted():
    def apply(params, t, x, cond=None, *, align=False):
        return (2 * x, x + 1) if align else 2 * x

    x = jnp.ones((3, 2))
    model = predict(Model(None, apply), path=paths.linear(), row=paths.x1)
    v, projected = model.apply(None, 0.5, x, align=True)
    np.testing.assert_array_equal(v, model.apply(None, 0.5, x))
    np.testing.assert_allclose(v, 2 * x)  # (x1 - x)/(1 - t)
    np.testing.assert_array_equal(projected, x + 1)


def test_a_velocity_net_is_untouched():
    model = Model(None, None)
    assert predict(model, path=paths.linear()) is model
