"""A codec's weights are arguments of the metrics' programs: as constants each would hold a copy."""

import jax.numpy as jnp
import numpy as np
import pytest
import watched

from fmjax import sources
from fmjax.data.in_memory import in_memory
from fmjax.metrics import _flows, reconstruction, sampled_by
from fmjax.models.autoencoder import Autoencoder
from fmjax.samplers.ode import ode
from fmjax.types import Batch, Info

ROWS = Batch(np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32))
DATA = in_memory({"train": ROWS, "test": ROWS}, batch_size=8)
SOURCE = {"source": sources.normal}


def net(t, x, cond=None):
    return jnp.zeros_like(x)


def pairs(key, codec):
    options = {"batches": 2, "batch_size": 8, "coupling": None, **SOURCE}
    return list(_flows.training_pairs(key, DATA, codec=codec, **options))


def paths(key, codec):
    return _flows.travelled(net, key, DATA, 8, split="test", codec=codec, solve=ode, **SOURCE)


def reconstructed(key, codec):
    nets = Autoencoder(lambda t, x: jnp.concatenate([x, x], axis=-1), net)
    sample = lambda n: Batch(ROWS.x1[:n], ROWS.x1[:n])  # noqa: E731
    reconstruction.reconstruction(nets, key, DATA, sample, low=-1, high=1, codec=codec)


def compared(key, codec):
    samplers = {"none": lambda net, key, x0, cond: (x0, Info(jnp.asarray(0)))}
    options = {"samplers": samplers, "n": 8, **SOURCE}
    return sampled_by.sampled_by(net, key, DATA, lambda n: ROWS, codec=codec, **options)


@pytest.mark.parametrize(
    ("metric", "use"),
    [(pairs, "encode"), (paths, "encode"), (reconstructed, "encode"), (compared, "decode")],
)
def test_weights_are_an_argument(metric, use, key):
    seen = []
    metric(key, watched.codec(seen))
    uses = [traced for name, traced in seen if name == use]
    assert uses
    assert all(uses)
