import functools

import jax
import numpy as np
import pytest
from scipy import stats

from fmjax import times

N = 20_000
CDFS = {
    "uniform": (times.uniform, lambda t: t),
    "narrow": (functools.partial(times.uniform, low=0.2, high=0.6), lambda t: (t - 0.2) / 0.4),
    "logit_normal": (
        functools.partial(times.logit_normal, mean=-0.4, std=1.3),
        lambda t: stats.norm.cdf((np.log(t / (1 - t)) + 0.4) / 1.3),
    ),
    # from tan(πu/2) = t / (1 − t)
    "cosmap": (times.cosmap, lambda t: 2 / np.pi * np.arctan2(t, 1 - t)),
}


@pytest.mark.parametrize("name", CDFS)
def test_law(name):
    law, cdf = CDFS[name]
    t = np.asarray(law(jax.random.key(0), N), np.float64)
    assert t.shape == (N,)
    assert stats.kstest(t, cdf).pvalue > 1e-3


def test_stratified_times_are_evenly_spread_and_uniform_each():
    t = np.sort(times.stratified(jax.random.key(0), 64, low=0.1, high=0.9))
    np.testing.assert_allclose(np.diff(t), 0.8 / 64, atol=1e-6)
    firsts = jax.vmap(lambda k: times.stratified(k, 8)[3])(
        jax.random.split(jax.random.key(1), 2000)
    )
    assert stats.kstest(np.asarray(firsts), "uniform").pvalue > 1e-3
