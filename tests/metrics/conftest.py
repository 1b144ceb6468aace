"""Small data sets and samplers that stand in for a run's."""

import jax
import numpy as np
import pytest

from fmjax import types


def fake_data(splits, unlimited=()):
    """Data over host arrays `{split: (x1, cond or None)}`; those of `unlimited` report no size."""

    def take(split, n=None):
        x1, cond = splits[split]
        return types.Batch(x1=x1[:n], cond=None if cond is None else cond[:n])

    x1, cond = next(iter(splits.values()))
    spec = types.Batch(
        x1=jax.ShapeDtypeStruct(x1.shape[1:], x1.dtype),
        cond=None if cond is None else jax.ShapeDtypeStruct(cond.shape[1:], cond.dtype),
    )
    sizes = {split: 0 if split in unlimited else len(x) for split, (x, _) in splits.items()}
    return types.Data(spec, sizes, take)


def fake_sample(x1, cond=None):
    """A memoised sampler whose samples are the rows of `x1`, in order."""

    def sample(n):
        return types.Batch(x1=x1[:n], cond=None if cond is None else cond[:n])

    return sample


@pytest.fixture(scope="session")
def normal():
    """Rows of N(0, I) in 2-D: 6,000 to train, 200 to test, as examples of shape [1, 2]."""
    rows = np.random.default_rng(0).normal(size=(6200, 1, 2)).astype(np.float32)
    return fake_data({"train": (rows[:6000], None), "test": (rows[6000:], None)})


@pytest.fixture(scope="session")
def fresh():
    """8,000 fresh rows of the distribution of `normal`."""
    return np.random.default_rng(1).normal(size=(8000, 1, 2)).astype(np.float32)


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's digits: 1,437 to train and 360 to test, `[8, 8, 1]` in [-1, 1], labelled."""
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 8 - 1).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order].astype(np.int32)
    return fake_data({"train": (x[:1437], y[:1437]), "test": (x[1437:], y[1437:])})


@pytest.fixture(scope="session")
def images():
    """Bytes `[8, 8, 3]`, 200 to train and 60 to test, of the classes dark (0) and bright (1)."""
    rng = np.random.default_rng(0)
    bright = np.arange(260) % 2
    x = rng.integers(0, 128, (260, 8, 8, 3)) + 128 * bright[:, None, None, None]
    x, bright = x.astype(np.uint8), bright.astype(np.int32)
    return fake_data({"train": (x[:200], bright[:200]), "test": (x[200:], bright[200:])})


@pytest.fixture
def extractor():
    """The means of the channels, on a scale of 1, as if a pretrained network had made them."""
    return make_extractor()


@pytest.fixture
def make_extractor_named():
    return make_extractor


def make_extractor(name="tiny", sha256="0", low=0, high=255):
    from fmjax.pretrained import _features

    def apply(params, images):
        return images.mean(axis=(1, 2)) * params

    depends = {"sha256": sha256}
    return _features.Extractor(name, np.float32(1 / 255), apply, 3, depends, low, high, chunk=16)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def make_data():
    return fake_data


@pytest.fixture
def make_sample():
    return fake_sample
