import numpy as np
import prepared
import pytest
from PIL import Image

from fmjax.data.grain_source import tfds_grain
from fmjax.data.resize import centre_cropped, resized
from fmjax.data.tfds_memory import tfds_in_memory

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 64, 3), np.uint8)


def test_means_of_boxes():
    # 40 rows to 10: halved twice, by means of 2×2 that are rounded to bytes
    halved = IMAGE.reshape(20, 2, 32, 2, 3).mean(axis=(1, 3))
    halved = np.floor(halved + 0.5).reshape(10, 2, 16, 2, 3).mean(axis=(1, 3))
    ours = np.asarray(centre_cropped(Image.fromarray(IMAGE), 10), np.float32)
    np.testing.assert_allclose(ours, halved[:, 3:13], atol=2)
    squeezed = resized(size=8, crop=False, method="box")(IMAGE)
    np.testing.assert_allclose(squeezed, IMAGE.reshape(8, 5, 8, 8, 3).mean(axis=(1, 3)), atol=1)


def test_the_middle_is_cut_out_without_scaling():
    out = resized(size=40)(IMAGE)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, IMAGE[:, 12:52])
    np.testing.assert_array_equal(resized(size=40)(IMAGE[:, :40]), IMAGE[:, :40])


@pytest.mark.parametrize("shape", [(30, 50, 3), (50, 31, 1), (7, 9, 3), (64, 200, 1)])
@pytest.mark.parametrize("crop", [True, False])
def test_any_size_becomes_one(shape, crop):
    image = np.full(shape, 77, np.uint8)
    out = resized(size=16, crop=crop)(image)
    np.testing.assert_array_equal(out, np.full((16, 16, shape[-1]), 77))


def test_grey_and_colour():
    grey = IMAGE[..., :1]
    np.testing.assert_array_equal(
        resized(size=40, channels=3)(grey), grey[:, 12:52].repeat(3, axis=-1)
    )
    luminance = resized(size=40, channels=1)(IMAGE)
    expected = IMAGE[:, 12:52] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luminance[..., 0], expected, atol=1)


@pytest.mark.parametrize("factory", [tfds_in_memory, tfds_grain])
def test_sets_of_mixed_sizes(factory, tmp_path_factory):
    data_dir = tmp_path_factory.getbasetemp() / "mixed"
    prepared.prepare("imagenet2012", data_dir)
    options = {"data_dir": data_dir, "batch_size": 4}
    data = factory("imagenet2012", **options, transform=resized(size=24))
    assert data.batch("train", 0).x1.shape == (4, 24, 24, 3)
    assert data.names[0].startswith("n01440764")
    with pytest.raises(ValueError, match=r"\(40, 48, 3\).*transform=dict\(name='fmjax.data.resize"):
        factory("imagenet2012", **options).take("train", 4)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match=r"method='cubic'.*one of box, bicubic"):
        resized(size=8, method="cubic")
    with pytest.raises(ValueError, match="channels=2"):
        resized(size=8, channels=2)
    with pytest.raises(ValueError, match=r"shape \(8, 8\) and type float64; expected bytes"):
        resized(size=8)(np.zeros((8, 8)))
