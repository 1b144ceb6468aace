import importlib.util

import numpy as np
import pytest
from PIL import Image

from fmjax.data import _packages
from fmjax.data.photo_patches import PHOTOS, photo_patches

TWO = ("cat", "coffee")


@pytest.fixture(scope="module")
def data():
    return photo_patches(batch_size=8, photos=TWO)


def test_patches_are_cut_from_the_photos(data):
    x, label = data.take("test", 30)[:2]
    for name in TWO:
        with Image.open(_packages.file(*PHOTOS[name], what=name)) as image:
            pixels = np.asarray(image.convert("RGB"))
        height, width = pixels.shape[0] - 31, pixels.shape[1] - 31
        every = {
            pixels[i : i + 32, j : j + 32].tobytes()
            for i in range(0, height, 16)
            for j in range(0, width, 16)
        }
        of_photo = x[label == TWO.index(name)].astype(np.uint8)
        assert len(of_photo) > 5
        assert all(patch.tobytes() in every for patch in of_photo)


@pytest.mark.parametrize(("size", "stride"), [(32, 16), (16, 5), (20, 20)])
def test_no_pixel_is_in_both_splits(size, stride, tmp_path, monkeypatch):
    height, width = 200, 170
    # each pixel its own number
    numbers = np.arange(height * width, dtype=np.uint32).view(np.uint8).reshape(height, width, 4)
    Image.fromarray(numbers[..., :3].copy()).save(tmp_path / "photo.png")
    monkeypatch.setattr(_packages, "file", lambda *below, what: tmp_path / "photo.png")
    data = photo_patches(batch_size=8, photos=("cat",), size=size, stride=stride)
    patches = [data.take(split, None).x1.astype(np.uint8) for split in ("train", "test")]
    train, test = ({p.tobytes() for p in x.reshape(-1, 3)} for x in patches)
    assert not train & test
    down, across = (len(range(0, side - size + 1, stride)) for side in (height, width))
    touching_both = down * across - sum(map(len, patches))
    assert touching_both >= 0
    assert (touching_both > 0) == (size != stride)  # aligned patches lie in one block each


def test_spec_splits_and_names(data):
    assert data.spec.x1.shape == (32, 32, 3)
    assert data.names == TWO
    assert (data.null, data.read("coffee")) == (2, 1)
    train, test = data.splits["train"], data.splits["test"]
    assert 0.1 < test / (train + test) < 0.25
    for split in data.splits:
        assert (np.bincount(data.take(split, None).cond) > 40).all()
    batch = data.batch("train", 0)
    assert (batch.x1.dtype, batch.cond.dtype) == (np.float32, np.int32)
    assert 0 <= batch.x1.min() < batch.x1.max() <= 255


def test_all_photos_are_there_and_in_colour():
    data = photo_patches(batch_size=8, stride=32)
    assert data.names == tuple(PHOTOS)
    rows = data.take("train", None)
    for i, name in enumerate(PHOTOS):
        pixels = rows.x1[rows.cond == i]
        assert np.abs(pixels[..., 0] - pixels[..., 2]).mean() > 3, name


def test_contrast_leaves_flat_patches_out():
    plain = photo_patches(batch_size=8, photos=("rocket",))
    lively = photo_patches(batch_size=8, photos=("rocket",), contrast=10)
    flat = (plain.take("test", None).x1.reshape(plain.splits["test"], -1).std(axis=1) < 10).sum()
    assert 0 < flat == plain.splits["test"] - lively.splits["test"]


def test_bad_requests_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"no photo \['dog'\]; choose .*astronaut, cat"):
        photo_patches(batch_size=8, photos=("cat", "dog"))
    with pytest.raises(ValueError, match=r"photo 'cat' \(451×300\) has no patch for 't.*size=300"):
        photo_patches(batch_size=8, photos=("cat",), size=300)
    with pytest.raises(ValueError, match="stride=0"):
        photo_patches(batch_size=8, stride=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"photo 'cat': the package skimage is missing\. pip"):
        photo_patches(batch_size=8, photos=("cat",))
