import functools

import closed_forms
import numpy as np
import pytest

from fmjax.data import toy
from fmjax.metrics import loss_by_time

STD = 0.5
DATA = toy.toy(functools.partial(toy.gaussian, std=STD))


def test_the_exact_fields_loss_is_the_variance_that_is_left(key):
    net = closed_forms.field(lambda t: t, lambda t: 1 - t, closed_forms.gaussian([0.0, 0.0], STD))
    out = loss_by_time.loss_by_time(
        net, key, DATA, None, bins=3, high=0.9, batches=4, batch_size=6000
    )
    assert list(out) == ["loss_t0.00_0.30", "loss_t0.30_0.60", "loss_t0.60_0.90"]
    t = np.linspace(0, 0.9, 3000)
    rest = 1 + STD**2 - (t * STD**2 - (1 - t)) ** 2 / (t**2 * STD**2 + (1 - t) ** 2)
    np.testing.assert_allclose(list(out.values()), rest.reshape(3, -1).mean(axis=1), rtol=0.03)


def test_every_row_is_in_the_bin_of_its_time(key):
    # an error of t: its square averages (b³ - a³) / (3 (b - a)) where nothing else is left
    def bridge(key, t, x0, x1):
        return x1, x1 * 0, None

    out = loss_by_time.loss_by_time(
        lambda t, x, cond: x * 0 + t[:, None], key, DATA, None, bins=4, bridge=bridge
    )
    ends = np.linspace(0, 1, 5)
    exact = (ends[1:] ** 3 - ends[:-1] ** 3) / (3 * np.diff(ends))
    np.testing.assert_allclose(list(out.values()), exact, rtol=0.05)
    with pytest.raises(ValueError, match="9 bins of a batch of 8 rows"):
        loss_by_time.loss_by_time(lambda t, x, c: x, key, DATA, None, bins=9, batch_size=8)


def test_bins_that_would_share_a_name_are_refused(key):
    with pytest.raises(ValueError, match=r"20 bins of \[0.0, 0.1\] are narrower than 0.01"):
        loss_by_time.loss_by_time(lambda t, x, c: x, key, DATA, None, bins=20, high=0.1)
