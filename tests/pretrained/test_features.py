import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from fmjax.pretrained import _common, _features


def corners(params, images):
    """Two pixels and a parameter."""
    ones = jnp.ones((len(images), 1))
    return jnp.concatenate([images[:, 0, 0, :1], images[:, -1, -1, 2:], params * ones], axis=1)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def extractor(calls):
    def apply(params, images):
        calls.append(images.shape)
        return corners(params, images)

    return _features.Extractor("corners", np.float32(7), apply, 3, {"sha256": "0"}, chunk=10)


def test_every_row_in_order_by_one_program_over_all_devices(extractor, calls):
    x = np.random.default_rng(0).integers(0, 256, (35, 4, 5, 3)).astype(np.uint8)
    parts = list(extractor.stream(x))
    assert [len(part) for part in parts] == [16, 16, 3]
    found = np.concatenate(parts)
    np.testing.assert_array_equal(found[:, 0], x[:, 0, 0, 0])
    np.testing.assert_array_equal(found[:, 1], x[:, -1, -1, 2])
    assert set(found[:, 2]) == {7}
    # chunks of 10, filled up to a multiple of the 8 devices
    assert calls == [(16, 4, 5, 3)]


def test_the_last_images_are_not_computed_again(extractor, monkeypatch):
    n = 20  # in two chunks; kept features come whole

    def is_kept(x):
        return len(list(extractor.stream(x))) == 1

    x = np.zeros((n, 2, 2, 3), np.uint8)
    first = extractor(None, x)
    assert is_kept(x.copy())
    extractor(None, x + 1)
    assert is_kept(x)
    assert is_kept(x + 1)
    monkeypatch.setattr(_features, "KEPT_BYTES", n * 3 * 4)
    extractor(None, x + 2)
    assert is_kept(x + 2)
    more = np.zeros((n + 1, 2, 2, 3), np.uint8)
    extractor(None, more)
    assert not is_kept(more)
    assert is_kept(x + 2)
    for others in (x, x + 1):
        assert not is_kept(others)
    np.testing.assert_array_equal(extractor(None, x), first)


def test_other_ranges_become_the_nearest_bytes():
    x = np.array([-1.5, -1, 0.0, 0.999, 1]).reshape(5, 1, 1, 1)
    found = _features.as_bytes(x, low=-1, high=1)
    assert found.shape == (5, 1, 1, 3)
    assert found.dtype == np.uint8
    assert list(found[:, 0, 0, 0]) == [0, 0, 128, 255, 255]


def test_what_is_no_image_or_of_another_range_is_refused(extractor):
    with pytest.raises(ValueError, match=r"need rows \[n, height, width, 1 or 3\], got \[3, 4\]"):
        extractor(None, np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"got \[3, 4, 4, 2\]"):
        extractor(None, np.zeros((3, 4, 4, 2)))
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 4, 4, 1)
    with pytest.raises(ValueError, match=r"between -1 and 1, but the extractor takes 0 for black"):
        extractor(None, x)
    unit = dataclasses.replace(extractor, high=1)
    with pytest.raises(ValueError, match=r"between 0 and 31, but the extractor takes 0 for black"):
        unit(None, np.arange(32, dtype=np.float32).reshape(2, 4, 4, 1))
    with pytest.raises(ValueError, match="not finite"):
        extractor(None, x * np.float32(np.nan))


def test_a_folded_normalisation_is_the_convolution_then_it():
    rng = np.random.default_rng(0)
    tensors = {"c.weight": rng.normal(size=(5, 3, 1, 1)).astype(np.float32)}
    terms = ("weight", "bias", "running_mean", "running_var")
    tensors |= {f"n.{term}": rng.uniform(0.5, 2, 5).astype(np.float32) for term in terms}
    tensors["n.num_batches_tracked"] = np.zeros((), np.int64)
    taker = _common.Taker(tensors, "a layer")
    found = _features.folded(taker, "c", "n", eps=1e-3)
    taker.done(ignore=_features.counters(tensors))
    x = rng.normal(size=(4, 3))
    h = x @ tensors["c.weight"][:, :, 0, 0].T
    deviation = np.sqrt(tensors["n.running_var"] + 1e-3)
    expected = (h - tensors["n.running_mean"]) / deviation * tensors["n.weight"] + tensors["n.bias"]
    np.testing.assert_allclose(x @ found["kernel"][0, 0] + found["bias"], expected, rtol=1e-5)
