import functools

import closed_forms
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.data import toy
from fmjax.metrics import target_variance
from fmjax.types import Rows

MEAN, STD = (1.0, -2.0), 0.5
DATA = toy.toy(functools.partial(toy.gaussian, mean=MEAN, std=STD))
OPTIONS = {"batches": 4, "batch_size": 4096, "times": (0.0, 0.5, 0.8)}


def test_gaussians_at_the_exact_field(key):
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, closed_forms.gaussian(MEAN, STD))
    out = target_variance.target_variance(net, key, DATA, None, **OPTIONS)
    for t in OPTIONS["times"]:
        # u = x1 - x0 and x_t = t x1 + (1 - t) x0, all Gaussian
        covariance, variance = t * STD**2 - (1 - t), t**2 * STD**2 + (1 - t) ** 2
        explained = covariance**2 / variance / (1 + STD**2)
        assert out[f"target_variance_t{t:.2f}"] == pytest.approx(1 + STD**2, rel=0.03)
        assert out[f"target_explained_t{t:.2f}"] == pytest.approx(explained, abs=0.02)


def test_the_mean_explains_nothing_and_a_shift_all(key):
    mean = lambda t, x, cond: jnp.broadcast_to(jnp.asarray([MEAN]), x.shape)  # noqa: E731
    out = target_variance.target_variance(mean, key, DATA, None, **OPTIONS)
    assert out["target_explained_t0.50"] == pytest.approx(0, abs=0.01)

    def closest(key, x0, x1, cond):  # a source that is a shrunk copy of the data, found again
        return Rows(jnp.arange(len(x1)), jnp.arange(len(x1)))

    def halves(key, like):
        return like / 2

    out = target_variance.target_variance(
        lambda t, x, cond: x * 0.5 / (0.5 + 0.5 * t[:, None]),
        key,
        DATA,
        None,
        source=halves,
        coupling=closest,
        **OPTIONS,
    )
    assert out["target_variance_t0.50"] == pytest.approx(STD**2 / 4, rel=0.03)
    assert out["target_explained_t0.80"] == pytest.approx(1, abs=1e-5)
    assert np.isfinite(list(out.values())).all()
